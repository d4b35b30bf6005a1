// How many processors there are to use. A limit on processor time (a control group's quota) is not counted.

#define _GNU_SOURCE

#include "CDiTKernels.h"

#include <unistd.h>
#ifdef __linux__
#include <errno.h>
#include <sched.h>

// The calling thread's affinity, 0 where it cannot be asked. The kernel refuses a set smaller than its own, which may be
// larger than cpu_set_t's 1024 processors.
static int processors_of_affinity(void) {
  for (int limit = 1024; limit <= 1 << 20; limit *= 2) {
    cpu_set_t *set = CPU_ALLOC(limit);
    if (!set) return 0;
    const size_t size = CPU_ALLOC_SIZE(limit);
    const int status = sched_getaffinity(0, size, set), error = errno;
    const int count = status == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (status == 0 || error != EINVAL) return count;
  }
  return 0;
}
#else
static int processors_of_affinity(void) { return 0; }
#endif

int dit_available_processors(void) {
  const int allowed = processors_of_affinity();
  if (allowed > 0) return allowed;
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (int)online : 1;
}
