#!/usr/bin/env python3
"""How many steps does sampling need, and which steps? Distance against steps for four samplers and five step schedules.

    python3 -m venv .venv && .venv/bin/pip install -r Scripts/studies/requirements.txt
    .venv/bin/python Scripts/studies/jump_sampling.py [--work DIR] [--dit COMMAND] [--jobs 2] [--quick]

Trains a small DiT (16 tokens, D = 64, 4 blocks, linear beta schedule, T = 1000) on the digits' training split, draws 5,000
images (500 a class, no guidance) from the same start noise for every sampler, schedule and number of steps, and measures each
by `dit evaluate` against the training split: Frechet distance in the 64 pixels with a bootstrap of 200. Everything lies under
DIR (default .studies/jump); what is there is not made again, so an interrupted run goes on where it stopped. At the end:

    Documentation/studies/jump.json      every distance with its interval (with --quick: DIR/jump.json)
    Documentation/JumpSampling.md        the tables between its markers
    Documentation/studies/jump.png       the plot

About 25 minutes on two cores. --quick: 200 training steps, 200 images, three step counts; a minute or two, and no figure of it
means anything.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from study import machine

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = "digits:train"
SAMPLERS = {"ddpm": "DDPM", "ddim": "DDIM", "dpmpp": "DPM-Solver++", "unipc": "UniPC"}
SCHEDULES = ["linspace", "trailing", "quadratic", "jump:0.5", "jump:1"]
STEPS = [5, 10, 20, 50, 100, 200]
ALL_STEPS = 1000  # every training step: the schedules are the same there
LIMIT = 1.05  # of the 1000-step run's distance
CONFIGURATION = {
    "model": {
        "model_type": "dit", "input_size": 8, "patch_size": 2, "in_channels": 1, "hidden_size": 64, "depth": 4,
        "num_heads": 4, "num_classes": 10, "diffusion": {"schedule": "linear"},
    },
    "training": {
        "steps": 6000, "batch": 128, "learning_rate": 0.002, "warmup_steps": 100, "beta2": 0.99, "gradient_clip": 1,
        "flip": False, "validation_modulus": 5, "checkpoint_every": 1000, "validate_every": 500,
    },
    "sampling": {"sampler": "ddim", "steps": 50, "schedule": "trailing", "guidance": 1},
}


def run(command):
    """The standard output of a command that has to succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def train(args, work):
    model = work / "model"
    configuration = json.loads(json.dumps(CONFIGURATION))
    if args.quick:
        configuration["training"].update(steps=200, checkpoint_every=100, validate_every=100)
    file = work / "config.json"
    file.write_text(json.dumps(configuration, indent=1))
    resume = ["--resume"] if (model / "config.json").exists() else []
    run(args.dit + ["train", "--data", "digits", "--config", file, "--out", model, *resume])
    return model


def runs(args):
    """(sampler, schedule, steps): the dearest first, so that two jobs end together."""
    steps = [5, 20, 50] if args.quick else STEPS
    grid = [(a, b, n) for n in steps for b in SCHEDULES for a in SAMPLERS]
    if not args.quick:
        grid += [("ddpm", "linspace", ALL_STEPS), ("ddim", "linspace", ALL_STEPS)]
    return sorted(grid, key=lambda r: -r[2])


def measure(args, work, model, sampler, schedule, steps):
    """The distance of one run, from its file where that is there."""
    name = f"{sampler}-{schedule.replace(':', '')}-{steps}"
    result, samples = work / f"{name}.json", work / f"{name}.safetensors"
    if not result.exists():
        if not samples.exists():
            run(args.dit + [
                "sample", "--model", model, "--classes", "0-9", "--count", 20 if args.quick else 500, "--seed", 1,
                "--sampler", sampler, "--schedule", schedule, "--steps", steps, "--guidance", 1, "--threads", 1,
                "--out", samples])  # fmt: skip
        found = run(args.dit + [
            "evaluate", "--samples", samples, "--reference", REFERENCE, "--measures", "frechet", "--no-per-class",
            "--bootstrap", 200, "--seed", 0, "--threads", 1, "--json"])  # fmt: skip
        result.write_text(found)
    frechet = json.loads(result.read_text())["frechet"]
    print(f"{name}: {frechet['distance']:.4f}", flush=True)
    return {"sampler": sampler, "schedule": schedule, "steps": steps, "distance": frechet["distance"],
            "low": frechet["bootstrap"]["low"], "high": frechet["bootstrap"]["high"],
            "values": frechet["bootstrap"]["values"]}  # fmt: skip


def find(rows, sampler, schedule, steps):
    return next((r for r in rows if (r["sampler"], r["schedule"], r["steps"]) == (sampler, schedule, steps)), None)


def compare(rows):
    """Each row's distance over that of the 1000-step run it would replace, with the paired bootstrap's interval.

    DDPM is compared with DDPM, the deterministic samplers with DDIM: all three solve its differential equation.
    """
    for row in rows:
        reference = find(rows, "ddpm" if row["sampler"] == "ddpm" else "ddim", "linspace", ALL_STEPS)
        if not reference:
            continue
        ratios = np.array(row["values"]) / np.array(reference["values"])
        row["ratio"] = row["distance"] / reference["distance"]
        row["ratio_low"], row["ratio_high"] = (float(q) for q in np.percentile(ratios, [2.5, 97.5]))


def fewest(rows, sampler, schedule):
    """The fewest steps whose distance is within 5 % of the 1000-step run's, and the fewest that surely are."""
    mine = sorted((r for r in rows if r["sampler"] == sampler and r["schedule"] == schedule), key=lambda r: r["steps"])
    mine = [r for r in mine if "ratio" in r and r["steps"] < ALL_STEPS]
    within = next((r["steps"] for r in mine if r["ratio"] <= LIMIT), None)
    surely = next((r["steps"] for r in mine if r["ratio_high"] <= LIMIT), None)
    return within, surely


def table(head, lines):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
                     + ["| " + " | ".join(map(str, line)) + " |" for line in lines])  # fmt: skip


def tables(rows):
    steps = sorted({r["steps"] for r in rows if r["steps"] < ALL_STEPS})
    lines = []
    for sampler, title in SAMPLERS.items():
        for schedule in SCHEDULES:
            cells = []
            for n in steps:
                r = find(rows, sampler, schedule, n)
                cells.append(f"{r['distance']:.3f} ({r['low']:.3f}–{r['high']:.3f})" if r else "")
            within, surely = fewest(rows, sampler, schedule)
            lines.append([title, f"`{schedule}`", *cells, within or "–", surely or "–"])
    whole = [[SAMPLERS[r["sampler"]], f"{r['distance']:.3f} ({r['low']:.3f}–{r['high']:.3f})"]
             for r in rows if r["steps"] == ALL_STEPS]  # fmt: skip
    return "\n\n".join([
        table(["sampler", f"all {ALL_STEPS} steps"], whole),
        table(["sampler", "schedule", *map(str, steps), "fewest within 5 %", "and surely"], lines),
    ])


def write_between(path, marker, text):
    """Replaces what stands between <!-- marker --> and <!-- /marker -->."""
    old = path.read_text()
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    head, rest = old.split(begin)
    _, tail = rest.split(end)
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def plot(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), sharey=True, layout="constrained")
    for axis, (sampler, title) in zip(axes, SAMPLERS.items()):
        for schedule in SCHEDULES:
            mine = sorted((r for r in rows if (r["sampler"], r["schedule"]) == (sampler, schedule)), key=lambda r: r["steps"])
            mine = [r for r in mine if r["steps"] < ALL_STEPS]
            x = [r["steps"] for r in mine]
            axis.plot(x, [r["distance"] for r in mine], marker="o", markersize=3, linewidth=1, label=schedule)
            axis.fill_between(x, [r["low"] for r in mine], [r["high"] for r in mine], alpha=0.15)
        whole = find(rows, "ddpm" if sampler == "ddpm" else "ddim", "linspace", ALL_STEPS)
        if whole:
            axis.axhline(whole["distance"] * LIMIT, color="grey", linewidth=0.8, linestyle="--")
        axis.set(title=title, xscale="log", yscale="log", xlabel="steps")
        axis.set_xticks(STEPS, list(map(str, STEPS)))
        axis.minorticks_off()
    axes[0].set_ylabel("Fréchet distance, 64 pixels")
    axes[-1].legend(fontsize=8)
    figure.savefig(path, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / ".studies/jump", help="where runs and samples are kept")
    parser.add_argument("--dit", default=str(ROOT / "Scripts/dit"), help="the tool (default: Scripts/dit)")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    args = parser.parse_args()
    args.dit = [args.dit]
    work = args.work / "quick" if args.quick else args.work
    work.mkdir(parents=True, exist_ok=True)
    model = train(args, work)
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda r: measure(args, work, model, *r), runs(args)))
    compare(rows)
    rows.sort(key=lambda r: (list(SAMPLERS).index(r["sampler"]), SCHEDULES.index(r["schedule"]), r["steps"]))
    text = tables(rows)
    kept = [{k: v for k, v in r.items() if k != "values"} for r in rows]
    out = work if args.quick else ROOT / "Documentation/studies"
    out.mkdir(parents=True, exist_ok=True)
    samples = 200 if args.quick else 5000
    (out / "jump.json").write_text(json.dumps({"machine": machine(args.dit[0]), "samples": samples, "reference": REFERENCE, "runs": kept}, indent=1) + "\n")
    plot(rows, out / "jump.png")
    if args.quick:
        print(text)
    else:
        write_between(ROOT / "Documentation/JumpSampling.md", "jump", text)


if __name__ == "__main__":
    main()
