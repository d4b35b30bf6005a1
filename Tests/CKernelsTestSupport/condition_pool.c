// The worker pool again, asleep on a condition variable, under names of its own.

#define DIT_POOL_CONDITION
#define dit_pool_create condition_pool_create
#define dit_pool_destroy condition_pool_destroy
#define dit_pool_threads condition_pool_threads
#define dit_pool_run condition_pool_run

#include "../../Sources/CDiTKernels/runtime/pool.c"
