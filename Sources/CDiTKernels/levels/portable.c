// The kernels at the level "portable": what the compiler assumes of every CPU (SSE2 on x86-64, NEON on ARM).

#include <math.h>
#include <string.h>

#include "CDiTKernels.h"

#define KERNEL_NAME "portable"
#define KERNEL_TABLE dit_kernels_portable
#define HAS_SCALEF 0  // 2^integer and rounding in one instruction each
#define HAS_RCP14 0   // an estimate of 1/x
#define HAS_VNNI 0    // products of bytes
#define HAS_BF16 0    // products of bf16 pairs and conversions
#if defined(__SSE2__)  // bytes of a register, where there is an instruction for products of 16-bit pairs
#define VECTOR_BYTES 16
#else
#define VECTOR_BYTES 0
#endif
enum { TILE_ROWS = 2, TILE_VECTORS = 1 };  // registers of accumulators: see products.inc

#include "../ops/all.inc"
