// The kernels of kernels.inc at the level "portable".

#define KERNEL_NAME "portable"
#define KERNEL_TABLE dit_kernels_portable
#include "kernels.inc"
