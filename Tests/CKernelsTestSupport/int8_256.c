// The product of int8 of levels/avx2vnni.c over AVX-512's form of the same instruction, for CPUs that have this one only.

#include "CKernelsTestSupport.h"

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#define PRODUCT_INT8 product_int8_256
#define HAS_SCALEF 0
#define HAS_RCP14 0
#define HAS_VNNI 1
#define HAS_BF16 0
#define VECTOR_BYTES 32
enum { TILE_ROWS = 6, TILE_VECTORS = 1 };

#pragma clang attribute push(__attribute__((target("avx512vnni,avx512vl,avx512f,avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#include "../../Sources/CDiTKernels/ops/int8.inc"
#pragma clang attribute pop

const DiTKernelTable *kernels_int8_256(void) {
  static DiTKernelTable table;
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512vl")) return NULL;
  table = *dit_kernels(DiTISAAVX2);
  table.product_int8 = product_int8_256;
  return &table;
}
#else
#include <stddef.h>

const DiTKernelTable *kernels_int8_256(void) { return NULL; }
#endif
