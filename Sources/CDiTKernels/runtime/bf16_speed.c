// Whether the CPU's products of bf16 pairs are worth using, which is measured: a Zen 5 does
// twice float32's operations with them, an Emerald Rapids half.

#include "CDiTKernels.h"

#if defined(__x86_64__)
#include <time.h>

typedef float v16 __attribute__((vector_size(64)));
typedef __bf16 b32 __attribute__((vector_size(64)));

// So many products that do not wait for each other: more than a unit's latency times the units.
enum { CHAINS = 12, ROUNDS = 1024, SAMPLES = 8 };

#pragma clang attribute push(__attribute__((target("avx512bf16,avx512f"), noinline)), apply_to = function)

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double time_pairs(void) {
  v16 sums[CHAINS] = {0};
  const b32 x = {0};
  const double start = seconds();
  for (int i = 0; i < ROUNDS; i++) {
    _Pragma("clang loop unroll(full)") for (int k = 0; k < CHAINS; k++) {
      sums[k] = __builtin_ia32_dpbf16ps_512(sums[k], x, x);
      __asm__ volatile("" : "+v"(sums[k]));
    }
  }
  return seconds() - start;
}

static double time_float32(void) {
  v16 sums[CHAINS] = {0};
  v16 x = {0};
  __asm__ volatile("" : "+v"(x));
  const double start = seconds();
  for (int i = 0; i < ROUNDS; i++) {
    _Pragma("clang loop unroll(full)") for (int k = 0; k < CHAINS; k++) {
      sums[k] = __builtin_elementwise_fma(x, x, sums[k]);
      __asm__ volatile("" : "+v"(sums[k]));
    }
  }
  return seconds() - start;
}

#pragma clang attribute pop

int dit_bf16_pays(void) {
  if (dit_isa_supported() != DiTISAAVX512BF16) return 0;
  double pairs = 1e9, float32 = 1e9;
  for (int i = 0; i < SAMPLES; i++) {
    const double p = time_pairs(), f = time_float32();
    if (p < pairs) pairs = p;
    if (f < float32) float32 = f;
  }
  // A product of pairs does twice the work of one of float32, and in float32 the operands must be taken apart first.
  return pairs < 2.5 * float32;
}
#else
int dit_bf16_pays(void) { return 0; }
#endif
