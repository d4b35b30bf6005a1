// What tests of the kernels need in C.
#pragma once

#include "CDiTKernels.h"

#pragma clang assume_nonnull begin

// A table whose kernels compute nothing and count their calls.
extern const DiTKernelTable counting_kernels;

// The kernels of the table, by their place in kernels.def: how many, their names, and how often each has been called.
long counting_kernels_count(void);
const char *counting_kernels_name(long kernel);
long counting_kernels_calls(long kernel);

// Lets the calling thread run on one processor only, of those that it may run on. Returns 0, or -1 where that cannot be.
int bind_thread_to_one_processor(void);

// The table of AVX2 with the product of int8 that it has on CPUs with AVX-VNNI, in 256 bits; NULL where the CPU has
// no such instruction in any form. One caller at a time.
const DiTKernelTable *_Nullable kernels_int8_256(void);

// The pool as it is on systems without sleep on an address: runtime/pool.c compiled with DIT_POOL_CONDITION.
DiTPool *_Nullable condition_pool_create(int threads, int workers);
void condition_pool_destroy(DiTPool *pool);
void condition_pool_run(DiTPool *pool, DiTTask task, void *context, long count);

#pragma clang assume_nonnull end
