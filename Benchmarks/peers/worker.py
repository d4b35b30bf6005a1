"""One peer in one process: reads a request a line on standard input, answers a line on standard output.

    python worker.py torch|openvino|onnxruntime|jax --threads N

Requests: describe, prepare, run, memory, release (see README.md). An engine is a module `engine_NAME` with

    describe()                    -> {"version": ..., "detail": {...}}
    prepare(work, threads)        -> a function of no arguments that does the work once and answers what it made: a NumPy
                                     array (forward, sample) or a float, the loss (train)

and refuses a work that it has no way to do with `Unsupported`.
"""

import argparse
import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path

ENGINES = ["torch", "openvino", "onnxruntime", "jax"]


class Unsupported(Exception):
    """The engine has no way to do this work."""


class Worker:
    def __init__(self, engine, threads):
        self.name, self.threads = engine, threads
        self.engine = importlib.import_module(f"engine_{engine}")
        self.step = None

    def answer(self, request):
        operation = request.get("op")
        if operation not in ("describe", "prepare", "run", "memory", "release"):
            raise ValueError(f"op: expected describe, prepare, run, memory or release, found {operation!r}")
        return getattr(self, operation)(request)

    def describe(self, _):
        return {"engine": self.name, "threads": self.threads, **self.engine.describe()}

    def prepare(self, request):
        work = request["work"]
        self.release(None)
        start = time.perf_counter()
        step = self.engine.prepare(work, self.threads)
        result = step()
        answer = {"seconds": time.perf_counter() - start}
        if work["kind"] == "train":
            answer["loss"] = result
        elif "output" in work:
            write_output(result, work["output"])
        self.step = step
        return answer

    def run(self, request):
        if self.step is None:
            raise ValueError("run: nothing is prepared")
        seconds, result = [], None
        for _ in range(request["count"]):
            start = time.perf_counter()
            result = self.step()
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds} | ({"loss": result} if isinstance(result, float) else {})

    def memory(self, _):
        lines = Path("/proc/self/status").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
        return {"rss_bytes": kilobytes["VmRSS"] << 10, "peak_rss_bytes": kilobytes["VmHWM"] << 10}

    def release(self, _):
        self.step = None
        gc.collect()
        return {}


def write_output(array, path):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"output": np.ascontiguousarray(array, dtype=np.float32)}, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    arguments = parser.parse_args()
    # Engines print what they like: whatever goes to standard output goes to standard error, but for the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker(arguments.engine, arguments.threads)
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # whatever it is, the driver reads it and the worker goes on
            answer = {"error": f"{arguments.engine}: {type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    sys.modules["worker"] = sys.modules["__main__"]  # so that the engines' Unsupported is this file's
    main()
