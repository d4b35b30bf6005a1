#include "CKernelsTestSupport.h"

#include <stdatomic.h>

enum {
#define KERNEL(result, kernel, ...) index_of_##kernel,
#include "kernels.def"
#undef KERNEL
  COUNT
};

static const char *const names[] = {
#define KERNEL(result, kernel, ...) #kernel,
#include "kernels.def"
#undef KERNEL
};

static _Atomic long calls[COUNT];

// A kernel that is asked for a size of scratch answers 64.
#define KERNEL(result, kernel, ...)            \
  static result count_##kernel(__VA_ARGS__) {  \
    calls[index_of_##kernel]++;                \
    return (result)64;                         \
  }
#include "kernels.def"
#undef KERNEL

const DiTKernelTable counting_kernels = {
    .name = "counting",
#define KERNEL(result, kernel, ...) .kernel = count_##kernel,
#include "kernels.def"
#undef KERNEL
};

long counting_kernels_count(void) { return COUNT; }
const char *counting_kernels_name(long kernel) { return names[kernel]; }
long counting_kernels_calls(long kernel) { return calls[kernel]; }
