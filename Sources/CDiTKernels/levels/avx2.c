// The kernels at the level "avx2".

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "CDiTKernels.h"

#define KERNEL_NAME "avx2"
#define KERNEL_TABLE dit_kernels_avx2
#define HAS_SCALEF 0  // 2^integer and rounding in one instruction each
#define HAS_RCP14 0   // an estimate of 1/x
#define HAS_VNNI 0    // products of bytes
#define HAS_BF16 0    // products of bf16 pairs and conversions
#define VECTOR_BYTES 32  // of a register
enum { TILE_ROWS = 6, TILE_VECTORS = 1 };  // registers of accumulators: see products.inc

#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#include "../ops/all.inc"
#pragma clang attribute pop
#endif
