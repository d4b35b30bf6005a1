// The kernels at the level "portable".

#define KERNEL_NAME "portable"
#define KERNEL_TABLE dit_kernels_portable
#define KERNEL_LEVEL 0
#define KERNEL_NATIVE_BF16 0
#include "vectors.inc"
#include "kernels.inc"
#include "products.inc"
#include "attention.inc"
#include "convolution.inc"
#include "table.inc"
