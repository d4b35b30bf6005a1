"""A worker as the driver sees it: a process that runs only while a request of ours is on its way.

Between an answer and the next request it is stopped (SIGSTOP), because idle threads of many engines spin for a while and
would take the time of whichever worker is measured then.
"""

import ctypes
import json
import os
import signal
import subprocess

C = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1

class WorkerError(Exception):
    """The worker answered an error, or ended."""


class Process:
    def __init__(self, command, environment, cpus, log):
        self.log = log

        def begin():
            C.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a stopped worker would outlive a killed driver
            os.sched_setaffinity(0, cpus)

        with open(log, "a") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
                preexec_fn=begin)
        self.process.send_signal(signal.SIGSTOP)

    def ask(self, op, **arguments):
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the worker ended with status {self.process.wait()}; see {self.log}")
        self.process.send_signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    @property
    def pid(self):
        return self.process.pid

    def close(self):
        self.process.kill()  # it may be stopped, and holds nothing that matters
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
