"""The machine: what it is, which CPUs the workers run on, the environment that they get."""

import os
import platform
from pathlib import Path

# Whatever narrows or steers an engine from outside: each is to run as it is installed.
CLEARED = (
    "OPENBLAS_", "DIT_", "OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_", "OV_", "ORT_", "XLA_", "JAX_", "TORCH_",
    "ATEN_",
)


def environment(threads):
    """The caller's without what steers an engine, and with the number of threads for those that take it from there."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("DIT_PEERS_") or not name.startswith(CLEARED)  # the former say where checkouts are
    }
    count = str(threads)
    return kept | {
        "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count,
        "NPROC": count,  # XLA's pool
        "JAX_PLATFORMS": "cpu",
        "CI": "true",  # OpenVINO's converter sends no telemetry then
    }


def cpus(threads):
    """The CPUs of every worker: one a core first, then the cores' other threads."""
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise ValueError(f"--threads {threads}: this process may run on {len(allowed)} CPUs")
    cores, others = {}, []
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = path.read_text() if path.exists() else cpu
        others.append(cpu) if core in cores else cores.setdefault(core, cpu)
    return sorted([*cores.values(), *others][:threads])


def available_bytes():
    return 1024 * proc_value("/proc/meminfo", "MemAvailable")


class Bystanders:
    """How much of the CPUs went to anything but our workers (and, on a virtual machine, was stolen): `share()` since now."""

    def __init__(self, cpus, processes):
        self.cpus, self.processes = cpus, processes
        self.start = self.ticks()

    def share(self):
        total, busy, ours = (after - before for after, before in zip(self.ticks(), self.start, strict=True))
        return max(0.0, (busy - ours) / total) if total else 0.0

    def ticks(self):
        """(all, not idle, our workers') so far."""
        names = {f"cpu{cpu}" for cpu in self.cpus}
        lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
        times = [[int(value) for value in words[1:9]] for words in lines if words[0] in names]
        total, idle = sum(map(sum, times)), sum(time[3] + time[4] for time in times)
        return total, total - idle, sum(map(worker_ticks, self.processes))


def worker_ticks(pid):
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])  # user and system time


def describe(threads):
    return {
        "cpu": proc_text("/proc/cpuinfo", "model name", platform.machine()),
        "cpus": os.cpu_count(),
        "threads": threads,
        "memory_bytes": 1024 * proc_value("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def proc_value(path, name):
    return int(proc_text(path, name, "0").split()[0])


def proc_text(path, name, otherwise):
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return otherwise
