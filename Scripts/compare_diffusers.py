#!/usr/bin/env python3
"""`dit sample` beside diffusers' own DiTPipeline, from a pipeline that diffusers wrote: same seed, same pictures.

    Scripts/dit --help                      # builds
    pip install -r Scripts/requirements-fixtures.txt
    python Scripts/compare_diffusers.py --dit .build/release/dit --size XL/2

Writes a DiTPipeline with random weights (save_pretrained; transformer, AutoencoderKL, scheduler), scaled so that the
pictures have a spread of about 0.3, samples it with DDIM, DPM-Solver++ and UniPC by diffusers and by
`dit sample --rng torch`, both in float32, and requires samples within 2e-4 of their largest value and pictures within
0.5/255 at every pixel. Then it shows that this would not pass with a guidance of 3.9 for 4, with time frequencies over
128, or with another sampler.

Exit status 0: all as required. A folder given by --keep holds the pipeline; one that is there is used again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers import DiTPipeline
from fixtures.whole_pipeline import GUIDANCE, SCHEDULERS, SIZES, diffusers_samples, pipeline
from safetensors.torch import load_file

SAMPLES, PIXELS = 2e-4, 0.5  # relative; of 255


class Ours:
    """`dit sample` with one request."""

    def __init__(self, program: Path, classes: list[int], steps: int, seed: int) -> None:
        self.program = program
        self.request = ["--rng", "torch", "--seed", seed, "--classes", ",".join(map(str, classes)), "--steps", steps]

    def run(self, *arguments: object) -> None:
        subprocess.run([str(word) for word in (self.program, *arguments)], check=True, stdout=subprocess.DEVNULL)

    def samples(self, model: Path, sampler: str, guidance: float = GUIDANCE) -> tuple[torch.Tensor, torch.Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            out = f"{folder}/samples.safetensors"
            options = [*self.request, "--sampler", sampler, "--guidance", guidance]
            self.run("sample", "--model", model, *options, "--out", out)
            tensors = load_file(out)
        return tensors["samples"], tensors["images"] / 2 + 0.5

    def over_128(self, pipeline: Path, target: Path) -> Path:
        """The same weights as a model directory whose time frequencies are the published network's."""
        if not target.exists():
            self.run("convert", pipeline, target)
        file = target / "config.json"
        config = json.loads(file.read_text())
        config["time_frequencies"] = "dit"
        file.write_text(json.dumps(config))
        return target


class Report:
    def __init__(self) -> None:
        self.failed = False

    def add(self, title: str, ours, theirs, expected: bool, remark: str = "") -> None:
        samples = ((ours[0] - theirs[0]).abs().max() / theirs[0].abs().max()).item()
        pixels = (ours[1] - theirs[1]).abs().max().item() * 255
        passed = samples <= SAMPLES and pixels <= PIXELS
        self.failed |= passed != expected
        verdict = ("agrees" if passed else "differs") + ("" if passed == expected else ", WHICH IT SHOULD NOT")
        print(f"{title:34} samples {samples:.1e}, pixels {pixels:9.4f}/255: {verdict}{remark}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dit", type=Path, required=True, help="the program")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--classes", default="207", help="one picture each (default: 207)")
    parser.add_argument("--seed", type=int, default=33)
    parser.add_argument("--keep", type=Path, help="where the pipeline is kept (default: nowhere)")
    arguments = parser.parse_args()
    classes = [int(word) for word in arguments.classes.split(",")]
    ours = Ours(arguments.dit, classes, arguments.steps, arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.keep or Path(temporary)
        folder = work / "pipeline"
        if not (folder / "model_index.json").exists():
            pipeline(arguments.size).save_pretrained(folder, max_shard_size="1GB")
        made = DiTPipeline.from_pretrained(folder)
        report, theirs = Report(), {}
        for sampler in SCHEDULERS:
            begin = time.perf_counter()
            theirs[sampler] = diffusers_samples(made, sampler, classes, arguments.steps, arguments.seed)
            between = time.perf_counter()
            found = ours.samples(folder, sampler)
            seconds = f" ({time.perf_counter() - between:.1f} s with loading; {between - begin:.1f} s without)"
            spread = theirs[sampler][1].std().item()
            assert spread >= 0.2, f"pictures with a spread of {spread:.3f}"
            report.add(f"{sampler}, {arguments.steps} steps (spread {spread:.2f})", found, theirs[sampler], True, seconds)
        del made

        report.add("dpmpp, guidance 3.9", ours.samples(folder, "dpmpp", 3.9), theirs["dpmpp"], False)
        report.add("unipc beside diffusers' dpmpp", ours.samples(folder, "unipc"), theirs["dpmpp"], False)
        other = ours.over_128(folder, work / "over-128")
        report.add("dpmpp, frequencies over 128", ours.samples(other, "dpmpp"), theirs["dpmpp"], False)
    sys.exit(report.failed)


if __name__ == "__main__":
    main()
