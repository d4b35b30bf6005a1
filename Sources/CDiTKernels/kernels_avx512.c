// The kernels of kernels.inc at the level "avx512".

#if defined(__x86_64__)
#include <math.h>
#include <string.h>
#define KERNEL_NAME "avx512"
#define KERNEL_TABLE dit_kernels_avx512
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#include "kernels.inc"
#pragma clang attribute pop
#endif
