// The kernels at the level "avx512bf16": AVX-512 with its products of bf16 pairs.

#if defined(__x86_64__)
#include <math.h>
#include <string.h>
#define KERNEL_NAME "avx512bf16"
#define KERNEL_TABLE dit_kernels_avx512bf16
#define KERNEL_LEVEL 2
#define KERNEL_NATIVE_BF16 1
#pragma clang attribute push(__attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#include "../ops/vectors.inc"
#include "../ops/kernels.inc"
#include "../ops/products.inc"
#include "../ops/attention.inc"
#include "../ops/convolution.inc"
#include "../ops/table.inc"
#pragma clang attribute pop
#endif
