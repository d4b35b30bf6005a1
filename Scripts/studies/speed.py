#!/usr/bin/env python3
"""What does each way to sample faster cost in quality? Precision, sampler, steps, intervals of guidance, forecasts.

    python3 -m venv .venv && .venv/bin/pip install -r Scripts/studies/requirements.txt
    .venv/bin/python Scripts/studies/speed.py [--work DIR] [--dit FILE] [--phases train,judge,time,report] [--quick]

Trains three small networks: the published DiT (linear beta, learned variance) and SiT on the digits, JiT's form on the emoji. Draws
the same images (the same start noise and classes) under each setting, measures each set against all real images with `dit evaluate`
(Frechet distance in the 64 pixels of the digits, in 64 principal components of the emoji, with a bootstrap of 200), and the relative
difference between a set and that of the same setting in float32 or without forecasts. `time` measures on two threads, in turns,
and means something on an idle machine only. At the end:

    Documentation/studies/speed.json      every figure
    Documentation/SpeedAndQuality.md      the tables between its markers
    Documentation/studies/speed.png       the fronts

About an hour and a half on two cores, half of it training. --quick: a minute or two, and no figure of it means anything.
"""

import argparse
import re
import statistics
import time
from pathlib import Path

import numpy as np

from study import (DATA, DOCUMENTATION, RESOURCES, ROOT, Failed, between_markers, command, evaluate, find_dit, load_tensors, machine, main, note,
                   read_json, real, sample, save_tensors, side_by_side, table, train, write_json)

TRAINING = {"steps": 4000, "batch": 128, "learning_rate": 0.002, "warmup_steps": 100, "beta2": 0.99, "gradient_clip": 1, "flip": False,
            "validation_modulus": 5, "checkpoint_every": 1000, "validate_every": 1000}
SIZE = {"hidden_size": 128, "depth": 6, "num_heads": 4}
DIGITS = {"input_size": 8, "patch_size": 2, "in_channels": 1, "num_classes": 10, **SIZE}
EMOJI = {"input_size": 32, "patch_size": 4, "in_channels": 3, "num_classes": 12, **SIZE}
MODELS = {
    "dit": {
        "title": "DiT, digits", "data": "digits", "features": "pixels",
        "model": {"model_type": "dit", **DIGITS, "diffusion": {"schedule": "linear"}}, "training": TRAINING,
    },
    "shipped": {"title": "DiT, cosine schedule, digits", "data": "digits", "features": "pixels"},
    "sit": {
        "title": "SiT, digits", "data": "digits", "features": "pixels", "model": {"family": "sit", **DIGITS},
        "training": {**TRAINING, "ema_decays": [0.999]},
    },
    "jit": {
        "title": "JiT, emoji", "data": "emoji", "features": "pca:64",
        "model": {"family": "jit", **EMOJI, "patch_bottleneck": 32, "in_context_tokens": 8, "in_context_start": 2},
        "training": {**TRAINING, "steps": 3000, "batch": 64, "learning_rate": 0.001, "beta2": 0.95, "ema_decays": [0.999]},
    },
}  # fmt: skip


# What `dit sample --fast` takes.
FAST = {"dit": "sampler=unipc steps=10", "shipped": "sampler=unipc steps=10", "sit": "sampler=heun steps=12", "jit": "sampler=heun steps=12"}


def settings(model):
    """The settings of a model, as words: precision, then options of `dit sample`; each with the setting whose images its own are
    compared with, if any. The first of each scale of guidance is what the others of that scale are held against."""
    if model == "dit":
        scales, interval = ("guidance=1.5", "guidance=4"), "guidance-interval=80,570"
        slow = same = forecast = "sampler=ddim steps=50 schedule=leading"
        quick = ["sampler=ddim steps=25 schedule=leading"]
        for sampler, counts in (("dpmpp", (20, 10)), ("unipc", (20, 15, 12, 10, 8, 6))):
            quick += [f"sampler={sampler} steps=20 schedule=leading"]
            quick += [f"sampler={sampler} steps={n} schedule=quadratic" for n in counts]
    elif model == "shipped":  # predicts noise, by which the last step of its schedule cannot be read: leading leaves it out
        scales, interval = ("guidance=1.5",), "guidance-interval=161,874"
        slow = same = forecast = "sampler=ddim steps=50 schedule=leading"
        quick = [f"sampler={name} steps={n} schedule=leading" for name, n in (("dpmpp", 20), ("dpmpp", 10), ("unipc", 20), ("unipc", 10), ("unipc", 6))]
    else:
        scales = ("guidance=1.5",)
        # SiT: as much noise as at DiT's ends; JiT: its own interval.
        interval = "guidance-interval=0.16,0.79" if model == "sit" else "guidance-interval=0.1,1"
        everywhere = "" if model == "sit" else " guidance-interval=0,1"
        slow, same, forecast = f"sampler=heun steps=50{everywhere}", f"sampler=heun steps=25{everywhere}", f"sampler=euler steps=50{everywhere}"
        quick = [f"sampler=heun steps={n}{everywhere}" for n in ((15, 12, 10, 7, 5) if model == "sit" else (15, 12, 10))]
        quick += [f"sampler=euler steps=25{everywhere}"]
    found = {}
    for scale in scales:
        if model == "jit":  # as published
            found[f"fp32 {scale} {guided(slow, interval)}"] = None
        found[f"fp32 {scale} {slow}"] = None
        found.setdefault(f"fp32 {scale} {same}")
        for precision in ("bf16", "int8"):
            found[f"{precision} {scale} {same}"] = f"fp32 {scale} {same}"
        found[f"int8 {scale} {guided(same, interval)}"] = None
        for words in quick:
            if model != "jit":
                found[f"int8 {scale} {words}"] = None
            found[f"int8 {scale} {guided(words, interval)}"] = None
        whole = f"int8 {scale} {forecast}"
        found.setdefault(whole)
        for rule in ("taylor:2", "taylor:3", "taylor:4", "lite:2", "lite:3") if model != "jit" else ("taylor:2", "taylor:4", "lite:2"):
            found[f"{whole} cache={rule}"] = whole
        for every in (2, 4) if model != "jit" else (2,):
            found[f"{whole} guidance-every={every}"] = whole
    return found


def guided(words, interval):
    """The same with guidance in an interval."""
    return " ".join([word for word in words.split() if not word.startswith("guidance-interval")] + [interval])


def options(name):
    precision, *words = name.split()
    return ["--precision", precision, *(part for word in words for part in ("--" + word.partition("=")[0], word.partition("=")[2]))]


class Study:
    def __init__(self, arguments):
        self.quick = arguments.quick
        self.dit = find_dit(arguments.dit)
        self.work = arguments.work / "quick" if self.quick else arguments.work
        self.jobs = arguments.jobs
        self.models = arguments.models.split(",")

    def file(self, model, name, ending):
        return self.work / "runs" / model / (re.sub(r"[^a-z0-9.]+", "-", name) + ending)

    def model(self, model):
        return self.work / model if "model" in MODELS[model] else RESOURCES / "digits-model"

    def names(self, model):
        found = settings(model)
        return dict(list(found.items())[:6]) if self.quick else found

    def train(self):
        def one(model):
            value = MODELS[model]
            if "model" not in value:
                return
            training = dict(value["training"], **({"steps": 60, "checkpoint_every": 30, "validate_every": 30} if self.quick else {}))
            seconds = train(self.dit, value["data"], {"model": value["model"], "training": training}, self.work / model)
            note(f"{model}: trained in {seconds:.0f} s")

        side_by_side(self.jobs, [lambda m=model: one(m) for model in self.models])

    def noise(self, model):
        """Start noise for as many images as the data has, with their labels, so that classes have their shares."""
        path = self.work / "runs" / model / "noise.safetensors"
        if not path.exists():
            images, labels = real(MODELS[model]["data"])
            labels = labels[: 100 if self.quick else None]
            noise = np.random.default_rng(1).standard_normal((len(labels), *images.shape[1:]), dtype=np.float32)
            save_tensors(path, {"noise": noise, "labels": labels})
        return path

    def judge(self):
        def one(model, name):
            out, samples = self.file(model, name, ".json"), self.file(model, name, ".safetensors")
            sample(self.dit, self.model(model), self.noise(model), samples, *options(name))
            found = evaluate([self.dit], samples, DATA[MODELS[model]["data"]], out, "--measures", "frechet", "--no-per-class",
                             "--features", MODELS[model]["features"], "--bootstrap", 200, "--seed", 0, "--threads", 1)  # fmt: skip
            note(f"{model} {name}: {found['frechet']['distance']:.4f}")

        for model in self.models:
            self.noise(model)
        side_by_side(self.jobs, [lambda m=model, n=name: one(m, n) for model in self.models for name in self.names(model)])

    def time(self):
        """Milliseconds for a picture in batches of 64, by the difference of two runs, so that loading does not count."""
        for model in self.models:
            _, labels = real(MODELS[model]["data"])
            classes = ",".join(str(label) for label in sorted(set(labels.tolist())))
            rounds = {}
            names = list(self.names(model))

            def seconds(name, count):
                start = time.monotonic()
                out = self.work / "time.safetensors"
                command([self.dit, "sample", "--model", self.model(model), "--classes", classes, "--count", count, "--threads", 2,
                         *options(name), "--out", out])  # fmt: skip
                return time.monotonic() - start

            few, many = (1, 2) if self.quick else (1, 14 if model != "jit" else 6)
            for turn in range(1 if self.quick else 3):
                for name in names:
                    taken = seconds(name, many) - seconds(name, few)
                    rounds.setdefault(name, []).append(1000 * taken / ((many - few) * len(set(labels.tolist()))))
                note(f"{model}: turn {turn + 1}")
            write_json(self.work / "runs" / model / "time.json", {name: statistics.median(values) for name, values in rounds.items()})

    def rows(self, model):
        names = self.names(model)
        samples = {name: load_tensors(self.file(model, name, ".safetensors"))["samples"].astype(np.float64) for name in names}
        times = read_json(self.work / "runs" / model / "time.json", {})
        rows = []
        for name, against in names.items():
            found = read_json(self.file(model, name, ".json"))
            if not found:
                raise Failed(f"{model} {name} has not been judged")
            row = {"model": model, "setting": name, "scale": next(w for w in name.split() if w.startswith("guidance=")),
                   "distance": found["frechet"]["distance"], "low": found["frechet"]["bootstrap"]["low"],
                   "high": found["frechet"]["bootstrap"]["high"], "values": found["frechet"]["bootstrap"]["values"],
                   "milliseconds": times.get(name)}  # fmt: skip
            first = next(r["setting"] for r in [*rows, row] if r["scale"] == row["scale"])
            row["to_first"] = relative(samples[name], samples[first])
            if against:
                row["difference"], row["against"] = relative(samples[name], samples[against]), against
            rows.append(row)
        for row in rows:
            base = next(r for r in rows if r["scale"] == row["scale"])
            ratios = unbiased(row) / unbiased(base)
            row["ratio"] = row["distance"] / base["distance"]
            row["ratio_low"], row["ratio_high"] = (float(q) for q in np.percentile(ratios, [2.5, 97.5]))
            if row["milliseconds"]:
                row["time"] = row["milliseconds"] / base["milliseconds"]
        return rows

    def report(self):
        rows = {model: self.rows(model) for model in self.models}
        text = "\n\n".join(tables(model, found) for model, found in rows.items())
        kept = {model: [{k: round(v, 5) if isinstance(v, float) else v for k, v in r.items() if k not in ("values", "model")} for r in found]
                for model, found in rows.items()}  # fmt: skip
        value = {"machine": machine(self.dit), "models": kept}
        if self.quick:
            write_json(self.work / "speed.json", value)
            draw(rows, self.work / "speed.png")
            print(text)
        else:
            write_json(DOCUMENTATION / "studies/speed.json", value)
            draw(rows, DOCUMENTATION / "studies/speed.png")
            between_markers(DOCUMENTATION / "SpeedAndQuality.md", "speed", text)

    def run(self, phases):
        for phase in phases:
            getattr(self, phase)()


def unbiased(row):
    """The resamples' distances around the distance itself: a resample repeats images, which makes its own larger."""
    values = np.array(row["values"])
    return values - values.mean() + row["distance"]


def relative(images, others):
    return float(np.linalg.norm(images - others) / np.linalg.norm(others))


def kind(name):
    return "forecasts" if "cache=" in name or "every=" in name else name.split()[0]


def words(name):
    """A setting as the tables have it."""
    precision, *rest = name.split()
    pairs = dict(word.partition("=")[::2] for word in rest)
    text = f"{precision}, {pairs.pop('sampler')} {pairs.pop('steps')}"
    pairs.pop("guidance")
    if "schedule" in pairs:
        text += f" `{pairs.pop('schedule')}`"
    if "guidance-interval" in pairs:
        text += f", guided in {pairs.pop('guidance-interval').replace(',', '–')}"
    return text + "".join(f", `--{key} {value}`" for key, value in pairs.items())


def tables(model, rows):
    parts = []
    for scale in dict.fromkeys(row["scale"] for row in rows):
        lines = [[words(r["setting"]), f"{r['distance']:.3f} ({r['low']:.3f}–{r['high']:.3f})",
                  f"{r['ratio']:.2f} ({r['ratio_low']:.2f}–{r['ratio_high']:.2f})",
                  f"{r['to_first']:.2g}", f"{r['difference']:.2g}" if "difference" in r else "",
                  f"{r['milliseconds']:.2f}" if r["milliseconds"] else "–", f"{r['time']:.2f}" if "time" in r else "–"]
                 for r in rows if r["scale"] == scale]  # fmt: skip
        parts.append(f"**{MODELS[model]['title']}, guidance {scale.partition('=')[2]}**\n\n" + table(
            ["setting", "Fréchet distance", "of the first row's", "to its images", "to fp32's, or without forecasts", "ms a picture", "of its time"], lines))
    return "\n\n".join(parts)


def draw(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"fp32": "#333333", "bf16": "#2a7ab9", "int8": "#d1495b", "forecasts": "#edae49"}
    panels = [(model, scale) for model, found in rows.items() for scale in dict.fromkeys(r["scale"] for r in found)]
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4.6 * columns, 3.6 * lines), layout="constrained", squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (model, scale) in zip(grid.flat, panels):
        mine = [r for r in rows[model] if r["scale"] == scale and "time" in r]
        for group, colour in colours.items():
            some = [r for r in mine if kind(r["setting"]) == group]
            errors = [[max(0, r["distance"] - r["low"]) for r in some], [max(0, r["high"] - r["distance"]) for r in some]]
            axes.errorbar([r["time"] for r in some], [r["distance"] for r in some], yerr=errors, fmt="o", ms=4, lw=0.8,
                          color=colour, label=group)  # fmt: skip
        fast = [r for r in mine if r["setting"].split()[2:4] == FAST[model].split() and "guidance-interval" in r["setting"]
                and "guidance-interval=0,1" not in r["setting"].split()]  # fmt: skip
        axes.plot([r["time"] for r in fast], [r["distance"] for r in fast], "*", ms=13, mfc="none", mec="#2e8b57", label="--fast")
        front, best = [], np.inf
        for r in sorted(mine, key=lambda r: r["time"]):
            if r["distance"] < best:
                front.append(r)
                best = r["distance"]
        axes.step([r["time"] for r in front], [r["distance"] for r in front], where="post", color="#999999", lw=1, zorder=0)
        axes.set(xscale="log", yscale="log", title=f"{MODELS[model]['title']}, {scale.replace('=', ' ')}",
                 xlabel="time over the first row's", ylabel="Fréchet distance")  # fmt: skip
        axes.title.set_fontsize(10)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="y", which="minor", labelsize=7)
        axes.grid(alpha=0.3, which="both")
    grid[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def run():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / ".studies/speed", help="where runs and samples are kept")
    parser.add_argument("--dit", help="the built tool (default: .build/release/dit)")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each (but for times)")
    parser.add_argument("--models", default=",".join(MODELS), help="which of them")
    parser.add_argument("--phases", default="train,judge,time,report", help="of train, judge, time and report")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    arguments = parser.parse_args()
    Study(arguments).run(arguments.phases.split(","))


if __name__ == "__main__":
    main(run)
