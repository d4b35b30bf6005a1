#!/usr/bin/env python3
"""A class to a picture: `dit sample` beside diffusers' DiTPipeline on PyTorch, from the same directory, in turns.

    swift build -c release
    pip install torch diffusers safetensors
    python Benchmarks/peers/pipeline.py --ours .build/release/dit

Without --model it writes a pipeline of DiT-XL/2's and sd-vae's size with random weights: seconds do not depend on them.
Ours: guidance 4 in an interval, DPM-Solver++. Theirs: the same number of network evaluations (a guided step is two) with
the same sampler, in bf16 and in float32, and diffusers' default, 50 DDIM steps. Every run is a process of its own, from
launch to the finished picture, so that its memory is its own; files are in the page cache. Medians over rounds.
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


def worker(arguments: argparse.Namespace) -> None:
    """One picture by diffusers; prints what it took as JSON."""
    start = time.perf_counter()
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
    print(json.dumps({"load": loaded - start, "seconds": end - loaded, "peak": peak * 1024}))


class Theirs:
    def __init__(self, options: argparse.Namespace, model: Path, out: Path, sampler: str, steps: int, precision: str):
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
    def __init__(self, options: argparse.Namespace, model: Path, out: Path, precision: str):
        times = [i * (1000 // options.steps) for i in range(options.steps)]  # of the saved scheduler, `leading`
        low, high = options.interval
        guided = sum(low <= t <= high for t in times)
        self.name = f"dit sample {precision}, dpmpp, {options.steps} steps, {guided} guided"
        self.evaluations = options.steps + guided
        self.command = [options.ours, "sample", "--model", model, "--classes", 207, "--sampler", "dpmpp"]
        self.command += ["--steps", options.steps, "--guidance", 4, "--guidance-interval", f"{low},{high}"]
        self.command += ["--precision", precision, "--threads", options.threads, "--out", out]

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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--interval", type=lambda text: tuple(map(int, text.split(","))), default=(80, 570))
    parser.add_argument("--default", default="bf16,fp32", help="the precisions of diffusers' 50 DDIM steps")
    parser.add_argument("--threads", type=int, default=2)
    for name in ("--sampler", "--precision", "--out"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "DIT_ISA"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as temporary:
        model = options.model or Path(temporary) / "pipeline"
        if not options.model:
            sys.path.insert(0, str(SCRIPTS))
            from fixtures.whole_pipeline import pipeline

            pipeline("XL/2").save_pretrained(model)
        out = Path(temporary) / "picture.png"
        ours = [Ours(options, model, out, precision) for precision in ("bf16", "fp32")]
        steps = ours[0].evaluations // 2
        theirs = [Theirs(options, model, out, "dpmpp", steps, precision) for precision in ("bf16", "fp32")]
        theirs += [Theirs(options, model, out, "ddim", 50, precision) for precision in options.default.split(",")]
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
            print(f"| {engine.name} | {engine.evaluations} | {median('whole'):.1f} | {load} | {median('peak') / 1e9:.2f} |")


if __name__ == "__main__":
    main()
