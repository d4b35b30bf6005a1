#define _GNU_SOURCE
#include "cditmpi.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A handle is a pointer in two of the families and an int in MPICH's. Both are passed in a register of their own, of which an int
// is the lower half, on every system that has any of these libraries in 64 bits; so one type of function serves all three.
typedef uintptr_t Handle;

struct DiTMPI {
  enum { OPEN_MPI, MPICH, STANDARD } abi;
  char path[1024];
  Handle world, byte, errors_return;
  Handle channels[DIT_MPI_CHANNELS];  // the world, and copies of it
  pthread_mutex_t lock;               // of every call that two threads may make
  void *in_place, *status_ignore;
  int serialized, multiple;

  int (*Initialized)(int *);
  int (*Init_thread)(int *, char ***, int, int *);
  int (*Finalize)(void);
  int (*Abort)(Handle, int);
  int (*Comm_rank)(Handle, int *);
  int (*Comm_size)(Handle, int *);
  int (*Comm_dup)(Handle, Handle *);
  int (*Comm_set_errhandler)(Handle, Handle);
  int (*Get_library_version)(char *, int *);
  int (*Error_string)(int, char *, int *);
  int (*Ibarrier)(Handle, void *);
  int (*Ialltoallv)(const void *, const int *, const int *, Handle, void *, const int *, const int *, Handle, Handle, void *);
  int (*Iallgather)(const void *, int, Handle, void *, int, Handle, Handle, void *);
  int (*Iallgatherv)(const void *, int, Handle, void *, const int *, const int *, Handle, Handle, void *);
  int (*Ibcast)(void *, int, Handle, int, Handle, void *);
  int (*Test)(void *, int *, void *);
};

static bool find_calls(DiTMPI *mpi, void *library, char *error, size_t size) {
  struct {
    const char *name;
    void *place;
  } const calls[] = {
    {"MPI_Initialized", &mpi->Initialized},
    {"MPI_Init_thread", &mpi->Init_thread},
    {"MPI_Finalize", &mpi->Finalize},
    {"MPI_Abort", &mpi->Abort},
    {"MPI_Comm_rank", &mpi->Comm_rank},
    {"MPI_Comm_size", &mpi->Comm_size},
    {"MPI_Comm_dup", &mpi->Comm_dup},
    {"MPI_Comm_set_errhandler", &mpi->Comm_set_errhandler},
    {"MPI_Get_library_version", &mpi->Get_library_version},
    {"MPI_Error_string", &mpi->Error_string},
    {"MPI_Ibarrier", &mpi->Ibarrier},
    {"MPI_Ialltoallv", &mpi->Ialltoallv},
    {"MPI_Iallgather", &mpi->Iallgather},
    {"MPI_Iallgatherv", &mpi->Iallgatherv},
    {"MPI_Ibcast", &mpi->Ibcast},
    {"MPI_Test", &mpi->Test},
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    void *call = dlsym(library, calls[i].name);
    if (!call) {
      snprintf(error, size, "no MPI library of version 3 or later: it has no %s", calls[i].name);
      return false;
    }
    memcpy(calls[i].place, &call, sizeof call);
  }
  return true;
}

/// The values of MPI's constants, by the family that the library's symbols tell.
static void find_constants(DiTMPI *mpi, void *library) {
  // Open MPI's library of the standard ABI has its other one among its dependencies, in which symbols are found too.
  void *world = dlsym(library, "ompi_mpi_comm_world");
  bool is_standard = dlsym(library, "MPI_Abi_get_version") && strstr(mpi->path, "mpi_abi");
  if (world && !is_standard) {
    mpi->abi = OPEN_MPI;
    mpi->world = (Handle)world;
    mpi->byte = (Handle)dlsym(library, "ompi_mpi_byte");
    mpi->errors_return = (Handle)dlsym(library, "ompi_mpi_errors_return");
    mpi->in_place = (void *)1;
    mpi->status_ignore = NULL;
    mpi->serialized = 2;
    mpi->multiple = 3;
  } else if (is_standard) {
    mpi->abi = STANDARD;
    mpi->world = 0x101;
    mpi->byte = 0x247;
    mpi->errors_return = 0x143;
    mpi->in_place = (void *)1;
    mpi->status_ignore = NULL;
    mpi->serialized = 2048;
    mpi->multiple = 4096;
  } else {
    mpi->abi = MPICH;
    mpi->world = 0x44000000;
    mpi->byte = 0x4c00010d;
    mpi->errors_return = 0x54000001;
    mpi->in_place = (void *)-1;
    mpi->status_ignore = (void *)1;
    mpi->serialized = 2;
    mpi->multiple = 3;
  }
}

DiTMPI *dit_mpi_load(const char *path, char *error, size_t size) {
  // Open MPI's components look for its symbols among the global ones.
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    const char *reason = dlerror();
    snprintf(error, size, "%s", reason ? reason : "cannot be loaded");
    return NULL;
  }
  DiTMPI *mpi = calloc(1, sizeof *mpi);
  if (!mpi) {
    snprintf(error, size, "no memory");
    dlclose(library);
    return NULL;
  }
  if (!find_calls(mpi, library, error, size)) {
    free(mpi);
    dlclose(library);
    return NULL;
  }
  Dl_info info;
  void *call;
  memcpy(&call, &mpi->Init_thread, sizeof call);
  const char *file = dladdr(call, &info) && info.dli_fname ? info.dli_fname : path;
  char *real = realpath(file, NULL);  // a link may have any name
  snprintf(mpi->path, sizeof mpi->path, "%s", real ? real : file);
  free(real);
  find_constants(mpi, library);
  pthread_mutex_init(&mpi->lock, NULL);
  return mpi;
}

int dit_mpi_abi(const DiTMPI *mpi) { return mpi->abi; }

const char *dit_mpi_path(const DiTMPI *mpi) { return mpi->path; }

/// The longest text of any family (the standard ABI's).
enum { TEXT = 8192 };

void dit_mpi_version(const DiTMPI *mpi, char *text, size_t size) {
  static char whole[TEXT];
  int length = 0;
  if (mpi->Get_library_version(whole, &length)) length = 0;
  snprintf(text, size, "%.*s", length, whole);
}

void dit_mpi_error_text(DiTMPI *mpi, int code, char *text, size_t size) {
  static char whole[TEXT];
  int length = 0;
  pthread_mutex_lock(&mpi->lock);
  if (mpi->Error_string(code, whole, &length)) length = snprintf(whole, sizeof whole, "error %d", code);
  snprintf(text, size, "%.*s", length, whole);
  pthread_mutex_unlock(&mpi->lock);
}

int dit_mpi_start(DiTMPI *mpi, int *rank, int *size, int *level) {
  int provided = 0, started = 0;
  if (!mpi->Initialized(&started) && started) return -1;
  int code = mpi->Init_thread(NULL, NULL, mpi->serialized, &provided);
  if (code) return code;
  *level = provided >= mpi->multiple ? 2 : provided >= mpi->serialized ? 1 : 0;
  code = mpi->Comm_set_errhandler(mpi->world, mpi->errors_return);
  if (!code) code = mpi->Comm_rank(mpi->world, rank);
  if (!code) code = mpi->Comm_size(mpi->world, size);
  mpi->channels[0] = mpi->world;
  for (int channel = 1; channel < DIT_MPI_CHANNELS && !code; channel++) {
    mpi->channels[channel] = 0;  // of an int's handle the upper half
    code = mpi->Comm_dup(mpi->world, &mpi->channels[channel]);
    if (!code) code = mpi->Comm_set_errhandler(mpi->channels[channel], mpi->errors_return);
  }
  return code;
}

int dit_mpi_finish(DiTMPI *mpi) { return mpi->Finalize(); }

void dit_mpi_abort(DiTMPI *mpi, int status) {
  mpi->Abort(mpi->world, status);
  _Exit(status);
}

// A call that two threads may make, one after the other.
#define LOCKED(call)                     \
  do {                                   \
    pthread_mutex_lock(&mpi->lock);      \
    int code = (call);                   \
    pthread_mutex_unlock(&mpi->lock);    \
    return code;                         \
  } while (0)

int dit_mpi_barrier(DiTMPI *mpi, int channel, DiTMPIRequest *request) {
  request->handle = 0;
  LOCKED(mpi->Ibarrier(mpi->channels[channel], &request->handle));
}

int dit_mpi_all_to_all(
  DiTMPI *mpi, int channel, const void *send, const int *send_counts, const int *send_starts, void *receive,
  const int *receive_counts, const int *receive_starts, DiTMPIRequest *request) {
  request->handle = 0;
  LOCKED(mpi->Ialltoallv(
    send, send_counts, send_starts, mpi->byte, receive, receive_counts, receive_starts, mpi->byte,
    mpi->channels[channel], &request->handle));
}

int dit_mpi_all_gather_in_place(
  DiTMPI *mpi, int channel, void *buffer, const int *counts, const int *starts, DiTMPIRequest *request) {
  request->handle = 0;
  LOCKED(mpi->Iallgatherv(
    mpi->in_place, 0, mpi->byte, buffer, counts, starts, mpi->byte, mpi->channels[channel], &request->handle));
}

int dit_mpi_all_gather(
  DiTMPI *mpi, int channel, const void *send, int count, void *receive, DiTMPIRequest *request) {
  request->handle = 0;
  LOCKED(mpi->Iallgather(
    send, count, mpi->byte, receive, count, mpi->byte, mpi->channels[channel], &request->handle));
}

int dit_mpi_broadcast(DiTMPI *mpi, int channel, void *buffer, int count, int root, DiTMPIRequest *request) {
  request->handle = 0;
  LOCKED(mpi->Ibcast(buffer, count, mpi->byte, root, mpi->channels[channel], &request->handle));
}

int dit_mpi_test(DiTMPI *mpi, DiTMPIRequest *request, bool *done) {
  int flag = 0;
  pthread_mutex_lock(&mpi->lock);
  int code = mpi->Test(&request->handle, &flag, mpi->status_ignore);
  pthread_mutex_unlock(&mpi->lock);
  *done = flag != 0;
  return code;
}
