// Counts the allocations of the threads under a watch: the one that asked, and those it starts while it is watched. Other
// threads, a test runner's for example, are not counted, and each watch has a count of its own.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

// Whether allocations can be counted here: on Linux with the GNU C library and without a sanitizer.
int dit_allocations_supported(void);
// Begins a watch of the calling thread and the threads that it, and they, start.
void dit_allocations_watch(void);
// Ends the watch of the calling thread; threads started under it stay watched.
void dit_allocations_unwatch(void);
// Calls of malloc, calloc, realloc, posix_memalign, aligned_alloc and memalign under the calling thread's watch, so far.
long dit_allocations_count(void);
// While set, the first allocation of a watched thread stops the process with SIGTRAP, so that a debugger shows where.
void dit_allocations_trap(int trap);

#ifdef __cplusplus
}
#endif
