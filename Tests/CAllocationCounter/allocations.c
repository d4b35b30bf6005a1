// The allocator's entry points, in front of the C library's own: a program's definitions go before a shared library's.

#define _GNU_SOURCE
#include "CAllocationCounter.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

enum { WATCHES = 1024 };

// One count a watch; 0 is none.
static _Atomic long counts[WATCHES];
static _Atomic int watches;
static _Atomic int traps;
static _Thread_local int watched;

void dit_allocations_watch(void) {
  watched = 1 + atomic_fetch_add(&watches, 1) % (WATCHES - 1);
  atomic_store(&counts[watched], 0);
}

void dit_allocations_unwatch(void) { watched = 0; }
long dit_allocations_count(void) { return atomic_load(&counts[watched]); }
void dit_allocations_trap(int trap) { atomic_store(&traps, trap); }

#if defined(__linux__) && defined(__GLIBC__) && !defined(SANITIZED)

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

int dit_allocations_supported(void) { return 1; }

static inline void note(void) {
  if (!watched) return;
  atomic_fetch_add(&counts[watched], 1);
  if (atomic_load(&traps)) __builtin_debugtrap();
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
  note();
  return __libc_malloc(size);
}

void *calloc(size_t each, size_t size) {
  note();
  return __libc_calloc(each, size);
}

void *realloc(void *memory, size_t size) {
  note();
  return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
  note();
  if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0) return EINVAL;
  void *block = __libc_memalign(alignment, size);
  if (!block) return ENOMEM;
  *memory = block;
  return 0;
}

// A watched thread's own threads are watched from their first instruction.

typedef struct Start {
  void *(*routine)(void *);
  void *argument;
  int watch;
} Start;

static void *watched_start(void *argument) {
  Start start = *(Start *)argument;
  free(argument);
  watched = start.watch;
  return start.routine(start.argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument) {
  typedef int (*Create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  static _Atomic(Create) next;
  Create create = atomic_load(&next);
  if (!create) {
    create = (Create)dlsym(RTLD_NEXT, "pthread_create");
    atomic_store(&next, create);
  }
  if (!watched) return create(thread, attributes, routine, argument);
  Start *start = __libc_malloc(sizeof *start);
  if (!start) return EAGAIN;
  *start = (Start){routine, argument, watched};
  int status = create(thread, attributes, watched_start, start);
  if (status != 0) free(start);
  return status;
}

#else

int dit_allocations_supported(void) { return 0; }

#endif
