// The product of int8 at the level "avx512" on CPUs that have an instruction for it, AVX512_VNNI.

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "CDiTKernels.h"

#define PRODUCT_INT8 dit_product_int8_avx512
#define HAS_SCALEF 1
#define HAS_RCP14 1
#define HAS_VNNI 1
#define HAS_BF16 0
#define VECTOR_BYTES 64
enum { TILE_ROWS = 6, TILE_VECTORS = 4 };

#pragma clang attribute push(__attribute__((target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,f16c"))), apply_to = function)
#include "../ops/int8.inc"
#pragma clang attribute pop
#endif
