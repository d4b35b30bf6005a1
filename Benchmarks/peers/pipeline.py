#!/usr/bin/env python3
"""A class to a picture: `dit sample` beside diffusers' DiTPipeline on PyTorch, from the same directory, in turns.

    swift build -c release
    pip install torch diffusers safetensors
    python Benchmarks/peers/pipeline.py --ours .build/release/dit

Without --model it writes a pipeline of DiT-XL/2's and sd-vae's size with random weights: seconds do not depend on them.
Ours: guidance 4 in an interval, DPM-Solver++. Theirs: the same number of network evaluations (a guided step is two)
with the same sampler, in bf16 and in float32, and diffusers' default, 50 DDIM steps; ours also with --fast. Every run
is a process of its own, from launch to the finished picture, so that its memory is its own; files are in the page
cache. Medians over rounds.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "Scripts"


def write(arguments: argparse.Namespace) -> None:
    """A pipeline with random weights; in a process of its own, as what a parent holds counts as its children's peak."""
    sys.path.insert(0, str(SCRIPTS))
    from fixtures.whole_pipeline import pipeline

    pipeline(arguments.size).save_pretrained(arguments.model)


def worker(arguments: argparse.Namespace) -> None:
    """One picture by diffusers; prints what it took as JSON."""
    start = time.perf_counter()
    import diffusers
    import torch
    from diffusers import DDIMScheduler, DiTPipeline, DPMSolverMultistepScheduler

    torch.set_num_threads(arguments.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    pipeline = DiTPipeline.from_pretrained(arguments.model, torch_dtype=dtype)
    kind = {"ddim": DDIMScheduler, "dpmpp": DPMSolverMultistepScheduler}[arguments.sampler]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    loaded = time.perf_counter()
    images = pipeline([207], guidance_scale=4, num_inference_steps=arguments.steps, generator=torch.manual_seed(0)).images
    images[0].save(arguments.out)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    version = f"diffusers {diffusers.__version__}, PyTorch {torch.__version__}"
    print(json.dumps({"load": loaded - start, "seconds": end - loaded, "peak": peak * 1024, "version": version}))


class Theirs:
    def __init__(
        self, label: str, options: argparse.Namespace, model: Path, out: Path, sampler: str, steps: int, precision: str
    ):
        self.label, self.engine = label, "torch"
        self.name = f"diffusers {precision}, {sampler}, {steps} steps"
        self.evaluations = 2 * steps
        self.command = [sys.executable, __file__, "--ours", "none", "--worker", "--model", model, "--out", out]
        self.command += ["--sampler", sampler, "--steps", steps, "--precision", precision]
        self.command += ["--threads", options.threads]

    def run(self) -> dict:
        start = time.perf_counter()
        done = subprocess.run(list(map(str, self.command)), check=True, capture_output=True, text=True)
        return {"whole": time.perf_counter() - start, **json.loads(done.stdout.splitlines()[-1])}


class Ours:
    """With 20 steps and an interval, or (precision None) with --fast, whose evaluations the tool chooses."""

    def __init__(self, label: str, options: argparse.Namespace, model: Path, out: Path, precision: str | None):
        self.label, self.engine = label, "ours"
        times = [i * (1000 // options.steps) for i in range(options.steps)]  # of the saved scheduler, `leading`
        low, high = options.interval
        guided = sum(low <= t <= high for t in times)
        self.name = f"dit sample {precision}, dpmpp, {options.steps} steps, {guided} guided"
        self.evaluations = options.steps + guided
        self.command = [options.ours, "sample", "--model", model, "--classes", 207, "--guidance", 4]
        if precision:
            self.command += ["--sampler", "dpmpp", "--steps", options.steps, "--guidance-interval", f"{low},{high}"]
            self.command += ["--precision", precision]
        else:
            self.name, self.evaluations = "dit sample --fast", None
            self.command += ["--fast"]
        self.command += ["--threads", options.threads, "--out", out]

    def run(self) -> dict:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, self.command)), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, "dit sample failed"
        return {"whole": time.perf_counter() - start, "peak": usage.ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="dit")
    parser.add_argument("--model", type=Path, help="a DiTPipeline's directory")
    parser.add_argument("--size", default="XL/2", help="of the network, without --model (XL/2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every time, as Scripts/bench keeps them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--interval", type=lambda text: tuple(map(int, text.split(","))), default=(80, 570))
    parser.add_argument("--default", default="bf16,fp32", help="the precisions of diffusers' 50 DDIM steps")
    parser.add_argument("--threads", type=int, default=2)
    for name in ("--sampler", "--precision", "--out"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--worker", "--write"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        return write(options)
    if options.worker:
        return worker(options)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "DIT_ISA"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as temporary:
        model = options.model or Path(temporary) / "pipeline"
        if not options.model:
            command = [sys.executable, __file__, "--ours", "none", "--write", "--size", options.size, "--model", str(model)]
            subprocess.run(command, check=True)
        out = Path(temporary) / "picture.png"
        modes = [("ours", "bf16"), ("ours, fp32", "fp32"), ("ours, fast", None)]
        ours = [Ours(label, options, model, out, precision) for label, precision in modes]
        steps = ours[0].evaluations // 2
        theirs = [Theirs(label, options, model, out, "dpmpp", steps, p) for label, p in (("torch", "bf16"), ("torch, fp32", "fp32"))]
        for precision in options.default.split(","):
            theirs.append(Theirs(f"torch, default {precision}", options, model, out, "ddim", 50, precision))
        engines = ours + theirs
        results = {engine.name: [] for engine in engines}
        for number in range(options.rounds):
            for engine in engines if number % 2 == 0 else reversed(engines):
                results[engine.name].append(engine.run())
                print(engine.name, results[engine.name][-1], file=sys.stderr, flush=True)
        print(subprocess.run([options.ours, "info"], capture_output=True, text=True).stdout)
        print("| engine | evaluations | s from launch to picture | of them loading | peak memory, GB |")
        print("|---|---|---|---|---|")
        for engine in engines:
            runs = results[engine.name]

            def median(key: str) -> float:
                return statistics.median(run[key] for run in runs)

            load = f"{median('load'):.1f}" if "load" in runs[0] else "–"
            print(f"| {engine.name} | {engine.evaluations or '–'} | {median('whole'):.1f} | {load} | {median('peak') / 1e9:.2f} |")
        if options.json:
            options.json.write_text(json.dumps([entry(engine, results) for engine in engines], indent=1))


def entry(engine: Ours | Theirs, results: dict) -> dict:
    """As measure.py has them; `ratio` is the median of the rounds' ratios of ours in bf16 to it."""
    runs = results[engine.name]
    seconds = [run["whole"] for run in runs]
    first = next(iter(results.values()))
    return {
        "label": engine.label, "engine": engine.engine, "name": engine.name, "evaluations": engine.evaluations,
        "version": runs[0].get("version"), "rounds": [[value] for value in seconds], "median": statistics.median(seconds),
        "fastest": min(seconds), "slowest": max(seconds),
        "ratio": statistics.median(ours["whole"] / run["whole"] for ours, run in zip(first, runs)),
        "load": statistics.median(run["load"] for run in runs) if "load" in runs[0] else None,
        "peak_rss_bytes": statistics.median(run["peak"] for run in runs),
    }


if __name__ == "__main__":
    main()
