// The few calls of MPI that several processes of one run need, in a library that is found at run time: no build needs MPI, and
// no program that does not ask for it loads it.
//
// Every MPI library gives MPI_COMM_WORLD and its kin other values. Three families cover what there is:
//   - Open MPI 1.7 to 5 (libmpi.so.40): addresses of objects in the library;
//   - MPICH and what keeps its ABI (Intel MPI, MVAPICH, Cray): 32-bit integers;
//   - the standard ABI of MPI 5.0 (libmpi_abi.so.1): small integers in pointers.
// Values are those of MPICH 5.0.2's mpi.h and mpi_abi.h, and symbols of Open MPI 4.1.4 and 5.0.11.
//
// All calls return 0, or MPI's error code, which dit_mpi_error_text() explains. Those that name a channel, dit_mpi_test() and
// dit_mpi_error_text() may be
// made by several threads, each on a channel of its own: MPI is entered by one at a time.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__clang__)
#pragma clang assume_nonnull begin
#else
#define _Nullable
#endif

/// Independent streams of calls between the same ranks: on each all ranks make the same calls in the same order.
enum { DIT_MPI_CHANNELS = 2 };

/// A loaded library; stays loaded.
typedef struct DiTMPI DiTMPI;

/// A call that has begun. Its buffers stay untouched until dit_mpi_test() says that it is done.
typedef struct {
  /// A pointer, or a 32-bit integer in the lower half.
  uintptr_t handle;
} DiTMPIRequest;

/// Loads the library at `path` (a file, or a name for the system's search).
///
/// Returns null with the reason in `error`, which has room for `size` bytes: there is none, or it lacks a call.
DiTMPI *_Nullable dit_mpi_load(const char *path, char *error, size_t size);

/// Which values the library has for MPI's constants: 0 Open MPI's, 1 MPICH's, 2 the standard ABI's.
int dit_mpi_abi(const DiTMPI *mpi);

/// The file that was loaded, as the system names it.
const char *dit_mpi_path(const DiTMPI *mpi);

/// The library's own words about itself, one line or several.
void dit_mpi_version(const DiTMPI *mpi, char *text, size_t size);

/// What an error code means.
void dit_mpi_error_text(DiTMPI *mpi, int code, char *text, size_t size);

/// Starts MPI, for calls from one thread at a time, and makes its errors codes that are returned.
///
/// Returns -1 where it has been started already. `level`: 0 where only the thread that started may call, 1 where any one may, 2 where several may at once.
int dit_mpi_start(DiTMPI *mpi, int *rank, int *size, int *level);

/// Ends MPI; all ranks call it.
int dit_mpi_finish(DiTMPI *mpi);

/// Ends all ranks with this exit status, where the launcher passes it on. Does not return.
void dit_mpi_abort(DiTMPI *mpi, int status) __attribute__((noreturn));

// MARK: Calls of all ranks, begun. Counts and displacements are in bytes, one for each rank.

int dit_mpi_barrier(DiTMPI *mpi, int channel, DiTMPIRequest *request);

/// Rank r's part of `send` goes to rank r, and comes to `receive` from it.
int dit_mpi_all_to_all(
  DiTMPI *mpi, int channel, const void *send, const int *send_counts, const int *send_starts, void *receive,
  const int *receive_counts, const int *receive_starts, DiTMPIRequest *request);

/// Every rank gets every rank's part of `buffer`; its own part lies where it belongs.
int dit_mpi_all_gather_in_place(
  DiTMPI *mpi, int channel, void *buffer, const int *counts, const int *starts, DiTMPIRequest *request);

/// Every rank gets `count` bytes from every rank, in the order of the ranks.
int dit_mpi_all_gather(
  DiTMPI *mpi, int channel, const void *send, int count, void *receive, DiTMPIRequest *request);

/// Every rank gets rank `root`'s bytes.
int dit_mpi_broadcast(DiTMPI *mpi, int channel, void *buffer, int count, int root, DiTMPIRequest *request);

/// Lets the library work at a call that has begun, and says whether it is done.
int dit_mpi_test(DiTMPI *mpi, DiTMPIRequest *request, bool *done);

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif

#ifdef __cplusplus
}
#endif
