// The kernels at the level "avx2".

#if defined(__x86_64__)
#include <math.h>
#include <string.h>
#define KERNEL_NAME "avx2"
#define KERNEL_TABLE dit_kernels_avx2
#define KERNEL_LEVEL 1
#define KERNEL_NATIVE_BF16 0
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#include "vectors.inc"
#include "kernels.inc"
#include "products.inc"
#include "attention.inc"
#include "convolution.inc"
#include "table.inc"
#pragma clang attribute pop
#endif
