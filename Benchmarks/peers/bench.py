"""Times this package and its peers side by side on this machine. See README.md for what is done and how.

Progress goes to standard error, Markdown tables to standard output; results.json and chart.png into --out.
"""

import argparse
import datetime
import fnmatch
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import chart
import machine
import report
import works
from measure import Measurer
from process import Process, WorkerError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dit-bench" / "data"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--works", nargs="+", metavar="PATTERN", help="works whose name holds PATTERN (* and ? are wild)")
    which.add_argument("--quick", action="store_true", help="few works and rounds, to try it")
    which.add_argument("--full", action="store_true", help="also L/2, XL/2 batch 8, JiT and pMF, sampling, a class to a picture")
    parser.add_argument("--list", action="store_true", help="print the works' names, time nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help="of forwards (7; quick 3)")
    parser.add_argument("--training-rounds", type=int, metavar="N", help="of training steps and sampling (3; quick 1)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), metavar="N", help="of each engine (2)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench", metavar="DIR", help="(runs/bench)")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="where weights are kept, up to 9 GB")
    parser.add_argument("--ours", type=Path, default=ROOT / "Benchmarks/.build/release/dit-bench", metavar="PROGRAM")
    parser.add_argument("--dit", type=Path, default=ROOT / ".build/release/dit", metavar="PROGRAM", help="for pictures")
    parser.add_argument("--without-ours", action="store_true", help="the peers alone")
    arguments = parser.parse_args()
    for name in ("rounds", "training_rounds", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')}: expected at least 1, found {value}")
    return arguments


def selected(arguments):
    """The works, each with its entries."""
    level = "quick" if arguments.quick else "full" if arguments.full else "default"
    found = []
    for work in works.all_works():
        if arguments.works:
            wanted = any(fnmatch.fnmatch(work.name.lower(), f"*{p.lower()}*") for p in arguments.works)
        else:
            wanted = works.RUNS.index(work.run) <= works.RUNS.index(level)
        entries = [e for e in work.entries if not (arguments.without_ours and e.engine == "ours")]
        if wanted and not (arguments.without_ours and work.kind == "picture"):  # it is ours that says how many evaluations
            found.append((work, entries))
    return found


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.cpus = machine.cpus(arguments.threads)
        self.environment = machine.environment(arguments.threads)
        arguments.out.mkdir(parents=True, exist_ok=True)
        self.log = arguments.out / "workers.log"
        self.log.write_text("")

    def start(self, engine):
        if engine == "ours":
            command = [self.arguments.ours, "serve"]
        else:
            command = [sys.executable, HERE / "worker.py", engine]
        threads = ["--threads", str(self.arguments.threads)]
        return Process([*map(str, command), *threads], self.environment, self.cpus, self.log)

    def engines(self, chosen):
        """Engine -> what it says of itself; whichever is missing is known before anything is timed."""
        found = {}
        for name in dict.fromkeys(entry.engine for _, entries in chosen for entry in entries):
            with self.start(name) as process:
                found[name] = process.ask("describe")
            say(f"{report.NAMES.get(name, name)} {found[name]['version']} {found[name].get('detail', {})}")
        return found

    def pictures(self, network):
        """A class to a picture, whole processes: pipeline.py in a process of its own."""
        path = self.arguments.out / "pictures.json"
        path.unlink(missing_ok=True)
        command = [sys.executable, HERE / "pipeline.py", "--ours", self.arguments.dit, "--size", network, "--json", path]
        command += ["--rounds", self.picture_rounds, "--threads", self.arguments.threads]
        with open(self.log, "a") as log:
            done = subprocess.run(
                [str(word) for word in command], env=self.environment, stdout=log, stderr=log,
                preexec_fn=lambda: os.sched_setaffinity(0, self.cpus))
        if done.returncode:
            return [{"label": "ours", "engine": "ours", "refused": f"pipeline.py ended with status {done.returncode}; see {self.log}"}]
        return json.loads(path.read_text())

    def run(self, chosen):
        arguments = self.arguments
        today = datetime.date.today().isoformat()
        results = {"date": today, "machine": machine.describe(arguments.threads), "engines": self.engines(chosen), "works": []}
        rounds = arguments.rounds or (3 if arguments.quick else 7)
        training_rounds = arguments.training_rounds or (1 if arguments.quick else 3)
        self.picture_rounds = training_rounds
        measurer = Measurer(self.start, self.cpus, arguments.cache, rounds, training_rounds, self.pictures, say)
        for work, entries in chosen:
            say(f"{work.name} …")
            result = measurer.measure(work, entries)
            results["works"].append(result)
            for entry in result["entries"]:
                say("  " + line(entry))
            if result.get("bystanders", 0) > report.QUIET:
                say(f"  warning: other programs had {100 * result['bystanders']:.0f} % of these CPUs meanwhile")
            write(arguments.out / "results.json", json.dumps(results, indent=1))  # what is there survives an interruption
        return results


def line(entry):
    if "median" in entry:
        spread = f"{1e3 * entry['fastest']:.4g} to {1e3 * entry['slowest']:.4g}"
        ratio = f", ours/it {entry['ratio']:.3f}" if "ratio" in entry else ""
        error = "".join(f", {name} {value:.2g}" for name, value in entry.get("error", {}).items())
        rate = f", {entry['gflops']:.0f} GFLOP/s" if "gflops" in entry else ""
        return f"{entry['label']}: {1e3 * entry['median']:.4g} ms ({spread}){rate}{ratio}{error}"
    return f"{entry['label']}: {entry.get('refused') or entry.get('peak_rss_bytes')}"


def say(text):
    print(text, file=sys.stderr, flush=True)


def write(path, text):
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)


def main():
    arguments = parse()
    chosen = [(work, entries) for work, entries in selected(arguments) if entries]
    if arguments.list:
        print("\n".join(work.name for work, _ in chosen))
        return 0
    try:
        if not chosen:
            raise ValueError(f"--works {' '.join(arguments.works)}: no work has such a name; see --list")
        if not arguments.without_ours and not shutil.which(arguments.ours):
            raise ValueError(f"{arguments.ours}: no such program; build it, name it with --ours, or give --without-ours")
        if any(work.kind == "picture" for work, _ in chosen) and not shutil.which(arguments.dit):
            raise ValueError(f"{arguments.dit}: no such program; build it, name it with --dit, or leave pictures out by --works")
        results = Bench(arguments).run(chosen)
    except (ValueError, WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = report.markdown(results)
    write(arguments.out / "results.md", text)
    print(text, end="")
    if not arguments.without_ours:
        chart.draw(results, arguments.out / "chart.png")
    refused = [entry for work in results["works"] for entry in work["entries"] if "refused" in entry]
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
