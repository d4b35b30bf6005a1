// The kernels at the level "portable".

#define KERNEL_NAME "portable"
#define KERNEL_TABLE dit_kernels_portable
#define KERNEL_LEVEL 0
#define KERNEL_NATIVE_BF16 0
#include "../ops/vectors.inc"
#include "../ops/kernels.inc"
#include "../ops/products.inc"
#include "../ops/attention.inc"
#include "../ops/convolution.inc"
#include "../ops/table.inc"
