#define _GNU_SOURCE

#include "CKernelsTestSupport.h"

#ifdef __linux__
#include <sched.h>

int bind_thread_to_one_processor(void) {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return -1;
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; i++) {
    if (!CPU_ISSET(i, &allowed)) continue;
    CPU_SET(i, &one);
    return sched_setaffinity(0, sizeof one, &one);
  }
  return -1;
}
#else
int bind_thread_to_one_processor(void) { return -1; }
#endif
