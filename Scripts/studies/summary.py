#!/usr/bin/env python3
"""Writes README's summary of the studies, between its markers, from Documentation/studies/{ablation,jump,unet}.json.

    python3 Scripts/studies/summary.py

A study that has not been run leaves its line out.
"""

import math
import statistics

import study


def mean(values):
    """Of distances, which differ by factors: the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def ablation(value):
    for data, result in value["sets"].items():
        variants = result["variants"]
        base = mean(variants["published"]["frechet"])
        for name, row in variants.items():
            if name == "published":
                continue
            verdict = "no difference seen" if row["holm"] > 0.05 else "better" if row["ratio"] < 1 else "worse"
            yield [f"{data}: {name}", f"{mean(row['frechet']):.3f} against {base:.3f} (× {row['ratio']:.2f})",
                   f"{verdict} (p = {row['holm']:.2g}, Holm)"]


def jump(value):
    """Ratios are to all 1,000 steps: of DDPM for DDPM, of DDIM for the others."""
    whole = {row["sampler"]: row["distance"] for row in value["runs"] if row["steps"] == 1000}
    short = [row for row in value["runs"] if row["steps"] < 1000]
    for sampler in dict.fromkeys(row["sampler"] for row in short):
        within = [row for row in short if row["sampler"] == sampler and row["ratio"] <= 1.05]
        best = min(within, key=lambda row: (row["steps"], row["distance"]), default=None)
        found = f"{best['steps']} steps ({best['schedule']}): {best['distance']:.3f}" if best else "none up to 200"
        reference = sampler if sampler in whole else "ddim"
        yield [f"fewest {sampler} steps within 5 % of 1000 of {reference}", found,
               f"1000 steps: {whole[reference]:.3f}"]


def unet(value):
    runs = {}
    for row in value["runs"]:
        runs.setdefault((row["sampler"], row["steps"]), {}).setdefault(row["network"], []).append(row)
    for (sampler, steps), networks in runs.items():
        ours, theirs = ({"distance": mean([row["distance"] for row in networks[name]]),
                         "seconds": statistics.mean(row["seconds"] for row in networks[name])} for name in ("DiT", "U-Net"))
        yield [f"DiT against a U-Net, {sampler}, {steps} steps", f"{ours['distance']:.3f} against {theirs['distance']:.3f}",
               f"{ours['seconds']:.1f} s against {theirs['seconds']:.1f} s for {value['images']} images"]


def main():
    rows = []
    for name, lines in (("ablation", ablation), ("jump", jump), ("unet", unet)):
        value = study.read_json(study.DOCUMENTATION / "studies" / f"{name}.json")
        rows += lines(value) if value else []
    if not rows:
        raise study.Failed("Documentation/studies: no study has been run")
    study.between_markers(study.ROOT / "README.md", "studies",
                          study.table(["what", "Fréchet distance", ""], rows))


if __name__ == "__main__":
    study.main(main)
