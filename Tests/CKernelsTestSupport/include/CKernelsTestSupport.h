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

#pragma clang assume_nonnull end
