// Which table: asked of the CPU once, at run time.

#include "CDiTKernels.h"

#include <stddef.h>

extern const DiTKernelTable dit_kernels_portable;
#if defined(__x86_64__)
extern const DiTKernelTable dit_kernels_avx2, dit_kernels_avx512, dit_kernels_avx512bf16;
void dit_product_int8_avx2(const DiTProduct *p, long panel, long first_row, long end_row);
void dit_product_int8_avx512(const DiTProduct *p, long panel, long first_row, long end_row);
#endif

DiTISA dit_isa_supported(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                   __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                     __builtin_cpu_supports("avx512cd");
  if (avx2 && avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16"))
    return DiTISAAVX512BF16;
  if (avx2 && avx512) return DiTISAAVX512;
  if (avx2) return DiTISAAVX2;
#endif
  return DiTISAPortable;
}

const DiTKernelTable *dit_kernels(DiTISA isa) {
#if defined(__x86_64__)
  if (isa == DiTISAAVX512BF16) return &dit_kernels_avx512bf16;
  if (isa == DiTISAAVX512) return &dit_kernels_avx512;
  if (isa == DiTISAAVX2) return &dit_kernels_avx2;
#endif
  (void)isa;
  return &dit_kernels_portable;
}

DiTProductInt8 dit_native_int8(DiTISA isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == DiTISAAVX512BF16) return dit_kernels_avx512bf16.product_int8;
  if (isa == DiTISAAVX512 && __builtin_cpu_supports("avx512vnni")) return dit_product_int8_avx512;
  if (isa == DiTISAAVX2 && __builtin_cpu_supports("avxvnni")) return dit_product_int8_avx2;
#endif
  (void)isa;
  return NULL;
}
