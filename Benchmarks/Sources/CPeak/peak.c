#include "CPeak.h"

#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Twelve independent chains hide the latency of a multiply-add on every current core. What they compute with is unknown to the
// compiler, which would leave out a chain that starts where it stays.
enum { CHAINS = 12, ROUNDS = 100000 };

#pragma clang diagnostic ignored "-Wpsabi"
#define DEFINE_PEAK(NAME, ATTRIBUTE, LANES)                                        \
  ATTRIBUTE static double NAME(double seconds) {                                   \
    typedef float vector __attribute__((vector_size(4 * LANES)));                  \
    volatile float small = 1e-3f;                                                  \
    vector sums[CHAINS], factor = (vector){0} + (1 - small), term = (vector){0} + small; \
    for (int i = 0; i < CHAINS; i++) sums[i] = (vector){0} + (float)i;             \
    double operations = 0;                                                         \
    const double start = now();                                                    \
    double end = start;                                                            \
    do {                                                                           \
      for (int r = 0; r < ROUNDS; r++) {                                           \
        _Pragma("clang loop unroll(full)") for (int i = 0; i < CHAINS; i++)        \
            sums[i] = sums[i] * factor + term;                                     \
      }                                                                            \
      operations += 2.0 * LANES * CHAINS * ROUNDS;                                 \
      end = now();                                                                 \
    } while (end - start < seconds);                                               \
    volatile float sink = 0;                                                       \
    for (int i = 0; i < CHAINS; i++) sink = sink + sums[i][0];                     \
    return operations / (end - start) * 1e-9;                                      \
  }

#if defined(__x86_64__)
DEFINE_PEAK(peak_avx512, __attribute__((target("avx512f"))), 16)
DEFINE_PEAK(peak_avx2, __attribute__((target("avx2,fma"))), 8)
#endif
DEFINE_PEAK(peak_portable, , 4)

double peak_fp32(double seconds) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return peak_avx512(seconds);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return peak_avx2(seconds);
#endif
  return peak_portable(seconds);
}

// A 512-bit dpbf16 multiplies 32 pairs and adds them to 16 sums.
#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) static double peak_avx512bf16(double seconds) {
  volatile short half = 0x3f00, small = 0x3a80;
  const __m512bh factor = (__m512bh)_mm512_set1_epi16(half), term = (__m512bh)_mm512_set1_epi16(small);
  __m512 sums[CHAINS];
  for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps((float)i);
  double operations = 0;
  const double start = now();
  double end = start;
  do {
    for (int r = 0; r < ROUNDS; r++) {
      _Pragma("clang loop unroll(full)") for (int i = 0; i < CHAINS; i++)
          sums[i] = _mm512_dpbf16_ps(sums[i], factor, term);
    }
    operations += 2.0 * 32 * CHAINS * ROUNDS;
    end = now();
  } while (end - start < seconds);
  volatile float sink = 0;
  for (int i = 0; i < CHAINS; i++) sink = sink + sums[i][0];
  return operations / (end - start) * 1e-9;
}
#endif

double peak_bf16(double seconds) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16")) return peak_avx512bf16(seconds);
#endif
  return 0;
}
