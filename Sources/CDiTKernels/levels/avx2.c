// The kernels at the level "avx2".

#if defined(__x86_64__)
#include <math.h>
#include <string.h>
#define KERNEL_NAME "avx2"
#define KERNEL_TABLE dit_kernels_avx2
#define KERNEL_LEVEL 1
#define KERNEL_NATIVE_BF16 0
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#include "../ops/vectors.inc"
#include "../ops/kernels.inc"
#include "../ops/products.inc"
#include "../ops/attention.inc"
#include "../ops/convolution.inc"
#include "../ops/table.inc"
#pragma clang attribute pop
#endif
