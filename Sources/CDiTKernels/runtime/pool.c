// A worker pool for tasks of 10 µs and more: workers spin briefly for the next job, then sleep until `state` changes: on
// its address where the system can (Linux's futex, Apple's os_sync), else on a condition variable.
//
// `state` holds, from the low end: the number of workers inside the job (12 bits), whether the job is open (1 bit) and
// the job's generation (19 bits). A worker joins an open job it has not seen with one compare-and-swap; the caller closes
// the job when its own share is done and waits for those inside only, never for a worker that is still asleep.

#include "CDiTKernels.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

// DIT_POOL_CONDITION chooses the condition variable everywhere, for tests of it.
#if defined(__linux__) && !defined(DIT_POOL_CONDITION)
#define SLEEPS_ON_FUTEX 1
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__) && !defined(DIT_POOL_CONDITION)
#include <Availability.h>
#if __has_include(<os/os_sync_wait_on_address.h>) && __MAC_OS_X_VERSION_MIN_REQUIRED >= 140400
#define SLEEPS_ON_OS_SYNC 1
#include <os/os_sync_wait_on_address.h>
#endif
#endif

enum { ACTIVE_MASK = 0xFFF, OPEN = 0x1000, GENERATION_SHIFT = 13, SPINS = 4000, MAX_THREADS = 1024 };

struct DiTPool {
  _Atomic unsigned state;
  _Atomic int sleepers;
  _Atomic int caller_sleeps;
  _Atomic int stop;
  _Atomic long next;
  DiTTask task;
  void *context;
  long count;
  int threads;  // what tasks are numbered by
  int workers;  // what runs, the caller counted
  pthread_mutex_t turn;
  pthread_t *handles;
#if !SLEEPS_ON_FUTEX && !SLEEPS_ON_OS_SYNC
  pthread_mutex_t lock;
  pthread_cond_t changed;
#endif
};

typedef struct Worker {
  DiTPool *pool;
  long index;
} Worker;

// One more than the worker's index while this thread runs tasks, so that a nested run does not wait for itself.
static _Thread_local long inside_task;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// sleep_while returns at once where the state is not `value`, and may return early: callers look at the state again. A
// change of the state before wake_all ends every sleep that began with another value.
#if SLEEPS_ON_FUTEX
static void init_sleep(DiTPool *pool) { (void)pool; }
static void destroy_sleep(DiTPool *pool) { (void)pool; }
static void sleep_while(DiTPool *pool, unsigned value) {
  syscall(SYS_futex, &pool->state, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}
static void wake_all(DiTPool *pool) {
  syscall(SYS_futex, &pool->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
#elif SLEEPS_ON_OS_SYNC
static void init_sleep(DiTPool *pool) { (void)pool; }
static void destroy_sleep(DiTPool *pool) { (void)pool; }
static void sleep_while(DiTPool *pool, unsigned value) {
  os_sync_wait_on_address((void *)&pool->state, value, sizeof pool->state, OS_SYNC_WAIT_ON_ADDRESS_NONE);
}
static void wake_all(DiTPool *pool) {
  os_sync_wake_by_address_all((void *)&pool->state, sizeof pool->state, OS_SYNC_WAKE_BY_ADDRESS_NONE);
}
#else
static void init_sleep(DiTPool *pool) {
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->changed, NULL);
}
static void destroy_sleep(DiTPool *pool) {
  pthread_cond_destroy(&pool->changed);
  pthread_mutex_destroy(&pool->lock);
}
static void sleep_while(DiTPool *pool, unsigned value) {
  pthread_mutex_lock(&pool->lock);
  if (atomic_load(&pool->state) == value) pthread_cond_wait(&pool->changed, &pool->lock);
  pthread_mutex_unlock(&pool->lock);
}
static void wake_all(DiTPool *pool) {
  pthread_mutex_lock(&pool->lock);  // so that none is between its look at the state and its sleep
  pthread_cond_broadcast(&pool->changed);
  pthread_mutex_unlock(&pool->lock);
}
#endif

static void work(DiTPool *pool, long worker) {
  inside_task = worker + 1;
  for (;;) {
    long index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
    if (index >= pool->count) break;
    pool->task(pool->context, index, worker);
  }
  inside_task = 0;
}

static void leave(DiTPool *pool) {
  unsigned after = atomic_fetch_sub(&pool->state, 1) - 1;
  if ((after & (ACTIVE_MASK | OPEN)) == 0 && atomic_load(&pool->caller_sleeps)) wake_all(pool);
}

static void *worker_main(void *argument) {
  Worker worker = *(Worker *)argument;
  free(argument);
  DiTPool *pool = worker.pool;
  unsigned seen = 0;
  int spins = 0;
  while (!atomic_load_explicit(&pool->stop, memory_order_acquire)) {
    unsigned state = atomic_load_explicit(&pool->state, memory_order_acquire);
    unsigned generation = state >> GENERATION_SHIFT;
    if ((state & OPEN) && generation != seen) {
      if (!atomic_compare_exchange_weak(&pool->state, &state, state + 1)) continue;
      seen = generation;
      work(pool, worker.index);
      leave(pool);
      spins = 0;
    } else if (spins++ < SPINS) {
      relax();
    } else {
      atomic_fetch_add(&pool->sleepers, 1);
      if (atomic_load(&pool->state) == state && !atomic_load(&pool->stop)) sleep_while(pool, state);
      atomic_fetch_sub(&pool->sleepers, 1);
      spins = 0;
    }
  }
  return NULL;
}

DiTPool *dit_pool_create(int threads, int workers) {
  if (threads < 1 || threads > MAX_THREADS || workers < 1) return NULL;
  DiTPool *pool = calloc(1, sizeof *pool);
  if (!pool) return NULL;
  if (workers > threads) workers = threads;
  pool->handles = calloc((size_t)workers, sizeof *pool->handles);
  if (!pool->handles) {
    free(pool);
    return NULL;
  }
  pthread_mutex_init(&pool->turn, NULL);
  init_sleep(pool);
  pool->threads = threads;
  pool->workers = 1;
  while (pool->workers < workers) {
    Worker *worker = malloc(sizeof *worker);
    if (worker) *worker = (Worker){pool, pool->workers};
    if (!worker || pthread_create(&pool->handles[pool->workers], NULL, worker_main, worker) != 0) {
      free(worker);
      dit_pool_destroy(pool);
      return NULL;
    }
    pool->workers++;
  }
  return pool;
}

void dit_pool_destroy(DiTPool *pool) {
  atomic_store(&pool->stop, 1);
  // A new generation, not open: no worker goes to sleep on the old value, and none joins.
  atomic_fetch_add(&pool->state, 1u << GENERATION_SHIFT);
  wake_all(pool);
  for (int i = 1; i < pool->workers; i++) pthread_join(pool->handles[i], NULL);
  destroy_sleep(pool);
  pthread_mutex_destroy(&pool->turn);
  free(pool->handles);
  free(pool);
}

int dit_pool_threads(const DiTPool *pool) { return pool->threads; }

static void wait_for_workers(DiTPool *pool) {
  for (int spins = 0;; spins++) {
    unsigned state = atomic_load_explicit(&pool->state, memory_order_acquire);
    if ((state & ACTIVE_MASK) == 0) return;
    if (spins < SPINS) {
      relax();
      continue;
    }
    atomic_store(&pool->caller_sleeps, 1);
    state = atomic_load(&pool->state);
    if (state & ACTIVE_MASK) sleep_while(pool, state);
    atomic_store(&pool->caller_sleeps, 0);
  }
}

void dit_pool_run(DiTPool *pool, DiTTask task, void *context, long count) {
  if (count <= 0) return;
  if (inside_task) {
    for (long index = 0; index < count; index++) task(context, index, inside_task - 1);
    return;
  }
  pthread_mutex_lock(&pool->turn);
  pool->task = task;
  pool->context = context;
  pool->count = count;
  atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
  if (pool->workers > 1 && count > 1) {
    unsigned generation = (atomic_load_explicit(&pool->state, memory_order_relaxed) >> GENERATION_SHIFT) + 1;
    atomic_store(&pool->state, (generation << GENERATION_SHIFT) | OPEN);
    if (atomic_load(&pool->sleepers) > 0) wake_all(pool);
    work(pool, 0);
    atomic_fetch_and(&pool->state, ~(unsigned)OPEN);
    wait_for_workers(pool);
  } else {
    work(pool, 0);
  }
  pthread_mutex_unlock(&pool->turn);
}
