// The kernels at the level "avx512".

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "CDiTKernels.h"

#define KERNEL_NAME "avx512"
#define KERNEL_TABLE dit_kernels_avx512
#define HAS_SCALEF 1  // 2^integer and rounding in one instruction each
#define HAS_RCP14 1   // an estimate of 1/x
#define HAS_VNNI 0    // products of bytes
#define HAS_BF16 0    // products of bf16 pairs and conversions
#define VECTOR_BYTES 64  // of a register
enum { TILE_ROWS = 6, TILE_VECTORS = 4 };  // registers of accumulators: see products.inc

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#include "../ops/all.inc"
#pragma clang attribute pop
#endif
