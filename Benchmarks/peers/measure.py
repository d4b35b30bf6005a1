"""One work, measured: workers prepared, checked against PyTorch in fp32, then timed in turns.

A round gives each entry one turn of about half a second; rounds go there and back, so that a drift of the machine meets
all alike. A short call's first in a turn is not counted: it finds the caches full of another engine's data.
"""

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import calibration
import machine
import works
from process import WorkerError

TURN = 0.5  # seconds
MOST_CALLS = 50  # in a turn
FP32_OUTPUT = 1e-4  # largest difference over largest value
LOSS = {"fp32": 1e-4, "bf16": 2e-2}  # relative


class Measurer:
    """start(engine) -> Process; peaks of the machine are asked of "ours". pictures(network) -> entries, measured elsewhere."""

    def __init__(self, start, cpus, cache, rounds, training_rounds, pictures, say):
        self.start, self.cpus, self.cache, self.pictures, self.say = start, cpus, cache, pictures, say
        self.rounds = {"forward": rounds, "sample": training_rounds, "train": training_rounds}
        self.references = {}  # (kind, network, batch) -> the output, or the first loss, of PyTorch in fp32

    def measure(self, work, entries):
        result = {
            "name": work.name, "kind": work.kind, "network": work.network, "batch": work.batch,
            "precision": work.precision, "entries": [],
        }
        if work.kind == "picture":
            result["entries"] = self.pictures(work.network)
            return result
        files = works.files(work, self.cache)
        with tempfile.TemporaryDirectory() as folder:
            files["output"] = str(Path(folder) / "output.safetensors")
            if work.kind == "memory":
                result["entries"] = [self.memory(work, entry, files) for entry in entries]
                return result
            self.quantize(work, entries, files)
            peaks, found, disturbed = [], {}, []
            for group in groups(work, entries, machine.available_bytes()):
                self.measure_group(work, group, files, peaks, found, disturbed)
        result |= {"peaks": peaks, "bystanders": max(disturbed)}
        result["entries"] = [summary(work, entry, found[entry.label], peaks) for entry in entries]
        return result

    def quantize(self, work, entries, files):
        """Has the quantized network made if it is not in the cache, while no other worker is there: it takes gigabytes."""
        for entry in entries:
            request = entry.request(work, files)
            if (entry.engine, request["precision"]) == ("openvino", "int8") and not calibration.path(request).exists():
                self.say(f"  {entry.label}: quantizing …")
                with self.start(entry.engine) as process:
                    try:
                        process.ask("prepare", work=request)
                    except WorkerError as error:  # it will be met again, and counted, in its turn
                        self.say(f"  {entry.label}: {error}")

    def measure_group(self, work, group, files, peaks, found, disturbed):
        """Adds each entry's numbers to `found`; the entries run in turns, so they are in memory together."""
        with ExitStack() as stack:
            processes = {}
            for entry in group:
                process = stack.enter_context(self.start(entry.engine))
                numbers = found.setdefault(entry.label, {"rounds": [], "ratios": []})
                try:
                    numbers |= self.prepare(work, entry, process, files)
                except WorkerError as error:
                    numbers["refused"] = str(error)
                if "refused" in numbers:
                    self.say(f"  {entry.label}: {numbers['refused']}")
                    process.close()
                else:
                    processes[entry.label] = process
            ours = next((processes[e.label] for e in group if e.engine == "ours" and e.label in processes), None)
            if ours:
                peaks.append(ours.ask("peaks"))
            bystanders = machine.Bystanders(self.cpus, [process.pid for process in processes.values()])
            turns = self.turns(processes, self.rounds[work.kind])
            disturbed.append(bystanders.share())
            if ours:
                peaks.append(ours.ask("peaks"))
        for label, rounds in turns.items():
            found[label]["rounds"] += rounds
            if "ours" in turns:
                pairs = zip(turns["ours"], rounds, strict=True)
                found[label]["ratios"] += [statistics.median(a) / statistics.median(b) for a, b in pairs]

    def prepare(self, work, entry, process, files):
        """What the check says; "refused" when the entry is too far off to be timed."""
        answer = process.ask("prepare", work=entry.request(work, files))
        precision = entry.precision or work.precision
        reference = self.reference(work, files)
        if work.kind == "forward":
            error = output_error(load_file(files["output"])["output"], reference)
            bad = not np.isfinite(error["rms"]) or (precision == "fp32" and error["max"] > FP32_OUTPUT)
        elif work.kind == "sample":
            error, bad = {}, False
        else:
            error = {"loss": answer["loss"], "relative": abs(answer["loss"] - reference) / abs(reference)}
            bad = not error["relative"] <= LOSS[precision]
        checked = {"prepare_seconds": answer["seconds"], "error": error}
        return checked | ({"refused": f"disagrees with PyTorch in fp32: {error}"} if bad else {})

    def reference(self, work, files):
        kind = "train" if work.kind == "memory" else work.kind
        key = (kind, work.network, work.batch)
        if key not in self.references and kind != "sample":
            output = str(Path(files["output"]).with_name("reference.safetensors"))
            request = works.Entry("reference", "torch", precision="fp32").request(work, files | {"output": output})
            with self.start("torch") as process:
                answer = process.ask("prepare", work=request)
            self.references[key] = load_file(output)["output"] if kind == "forward" else answer["loss"]
        return self.references.get(key)

    def turns(self, processes, rounds):
        """label -> the seconds of each round's calls."""
        calls = {label: calls_in_turn(process) for label, process in processes.items()}
        seconds = {label: [] for label in processes}
        for index in range(-1, rounds):  # the first only warms up
            for label in list(processes)[:: 1 if index % 2 else -1]:
                count, skipped = calls[label]
                values = processes[label].ask("run", count=count + skipped)["seconds"][skipped:]
                if index >= 0:
                    seconds[label].append(values)
        return seconds

    def memory(self, work, entry, files):
        """The largest resident memory of a process that does nothing but two training steps."""
        with self.start(entry.engine) as process:
            try:
                numbers = self.prepare(work, entry, process, files)
                process.ask("run", count=1)
                numbers |= process.ask("memory")
            except WorkerError as error:
                self.say(f"  {entry.label}: {error}")
                numbers = {"refused": str(error)}
        return {"label": entry.label, "engine": entry.engine, **numbers}


def groups(work, entries, available):
    """Entries that fit into memory together; each group begins with the first, which the others are set against."""
    room = max(2, int(0.9 * available / work.bytes_needed()))
    first, rest = entries[0], entries[1:]
    if not rest:
        return [[first]]
    return [[first, *rest[start : start + room - 1]] for start in range(0, len(rest), room - 1)]


def calls_in_turn(process):
    """(calls that count, calls before them that do not), from the fastest of a few."""
    seconds = process.ask("run", count=1)["seconds"][0]
    if seconds < TURN:
        seconds = min(process.ask("run", count=4)["seconds"])
    return (1, 0) if seconds >= TURN else (min(MOST_CALLS, int(TURN / seconds) + 1), 1)


def output_error(found, expected):
    difference = found.astype(np.float64) - expected
    rms = np.sqrt((difference**2).mean() / (expected.astype(np.float64) ** 2).mean())
    return {"max": float(np.abs(difference).max() / np.abs(expected).max()), "rms": float(rms)}


def summary(work, entry, numbers, peaks):
    """An entry's row of the results. `ratio`: ours' time over its time, the median of the rounds'."""
    row = {"label": entry.label, "engine": entry.engine, **numbers}
    values = sorted(value for round in numbers["rounds"] for value in round)
    if not values:
        return row
    median = statistics.median(values)
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    row |= {"median": median, "fastest": values[0], "slowest": values[-1], "quartiles": [quartiles[0], quartiles[2]]}
    row["gflops"] = 2 * work.multiply_adds(entry) / median * 1e-9
    if work.kind != "forward":
        row["images_per_second"] = work.batch / median
    rates = [peak.get(f"{work.precision}_gflops") for peak in peaks]
    if rates and all(rates):
        row["share_of_peak"] = row["gflops"] / statistics.mean(rates)
    if numbers["ratios"]:
        row["ratio"] = statistics.median(numbers["ratios"])
    return row
