#!/usr/bin/env python3
"""What each idea is worth: the same small DiT, data, parameters and steps, one thing changed at a time.

    swift build -c release
    python3 -m venv ~/dit-studies && ~/dit-studies/bin/pip install -r Scripts/studies/requirements.txt
    ~/dit-studies/bin/python Scripts/studies/ablation.py            (about 50 minutes on two cores; Ctrl-C, and start it again)

Phases, in this order; --phases names some of them:

    train-digits     thirty-six variants, three seeds; start noise and samples too
    judge-digits     dit evaluate over pixels, and an SVM's opinion of the classes
    train-colour     on the emoji: the published DiT, lambda_seq, and the two attention variants that did best on digits
    judge-colour     dit evaluate over 64 principal components, and a classifier's opinion
    time             seconds a training step: variants in turns, one thread, nothing else running
    report           Documentation/studies/ablation.json, the tables of Documentation/Ablation.md, Documentation/ablation.png

--variants trains and judges some of the digits' variants alone, with the published DiT beside them. The report then adds them to what the
study's file has of the others: each is compared with the published DiT of its own machine.

--quick does all of it with next to no training, into the work folder: to see that it runs.
"""

import argparse
import json
import math
import statistics
from pathlib import Path

import numpy as np
from scipy import stats

import study
from study import note

SEEDS = [0, 1, 2]
PUBLISHED = "published"

# Variants: the keys of "model" that differ from the published DiT; "training." are keys of "training".
ATTENTION = {
    "temperature sqrt_beta": {"attention": {"temperature": "sqrt_beta"}},
    "temperature inverse_sqrt_beta": {"attention": {"temperature": "inverse_sqrt_beta"}},
    **{f"mask {mask}, window {window}": {"attention": {"mask": mask, "window": window}}
       for mask in ("soft", "hard") for window in ("signal", "noise", "full")},
    **{f"mask {mask}, window signal, distance grid": {"attention": {"mask": mask, "window": "signal", "distance": "grid"}}
       for mask in ("soft", "hard")},
}
SEQUENCE = {f"lambda_seq {weight}": {"training.lambda_seq": weight} for weight in (0.01, 0.1)}
OTHERS = {
    "time_frequencies literal": {"time_frequencies": "literal"},
    "position learned": {"position": "learned"},
    "position rope": {"position": "rope"},
    "conditioning adaln": {"conditioning": "adaln"},
    "conditioning additive": {"conditioning": "additive"},
    "conditioning in_context": {"conditioning": "in_context"},
    "prediction x0": {"diffusion": {"prediction": "x0"}},
    "prediction v": {"diffusion": {"prediction": "v"}},
    "prediction flow": {"learn_sigma": False, "diffusion": {"prediction": "flow"}},
    "prediction mean": {"diffusion": {"prediction": "mean"}},
}
JIT_PROCESS = {"path": "linear", "prediction": "x0", "loss_target": "velocity", "network_time": "1-s"}
LOGIT_NORMAL = {"time_distribution": {"logit_normal": [-0.8, 0.8]}}
JIT_PARTS = {"norm": "rms", "mlp": "swiglu", "qk_norm": True, "position": "sincos+rope", "patch_bottleneck": 2,
             "bias": {"patch_bottleneck": False}, "in_context_tokens": 4, "in_context_start": 1}
PARTS = {
    "norm rms": {"norm": "rms"},
    "mlp swiglu": {"mlp": "swiglu"},
    "qk_norm": {"qk_norm": True},
    "position sincos+rope": {"position": "sincos+rope"},
    "position learned+rope": {"position": "learned+rope"},
    "patch_bottleneck 2": {"patch_bottleneck": 2},
    "4 in_context_tokens from block 1": {"in_context_tokens": 4, "in_context_start": 1},
    "conditioning tokens, vector gates": {
        "conditioning": "tokens", "token_groups": {"class": 4, "time": 4}, "residual_gates": "vector"},
    "no biases": {"bias": False},
    "proj_dropout 0.1": {"training.proj_dropout": 0.1},
    "linear, x0, velocity loss": {"learn_sigma": False, "diffusion": JIT_PROCESS},
    "the same, logit-normal time": {"learn_sigma": False, "diffusion": {**JIT_PROCESS, **LOGIT_NORMAL}},
    "all of JiT": {"learn_sigma": False, "diffusion": {**JIT_PROCESS, **LOGIT_NORMAL}, **JIT_PARTS},
}
VARIANTS = {PUBLISHED: {}, **ATTENTION, **SEQUENCE, **OTHERS, **PARTS}

SETS = {
    "digits": {
        "model": {"model_type": "dit", "input_size": 8, "patch_size": 2, "in_channels": 1, "hidden_size": 64, "depth": 4,
                  "num_heads": 4, "num_classes": 10},
        "training": {"steps": 2000, "batch": 64, "learning_rate": 0.004, "warmup_steps": 100},
        "features": "pixels",
    },
    "emoji": {
        "model": {"model_type": "dit", "input_size": 32, "patch_size": 4, "in_channels": 3, "hidden_size": 96, "depth": 4,
                  "num_heads": 4, "num_classes": 12},
        "training": {"steps": 4000, "batch": 32, "learning_rate": 0.002, "warmup_steps": 100},
        "features": "pca:64",
    },
}
TRAINING = {"beta2": 0.99, "gradient_clip": 1, "flip": False, "validation_modulus": 5, "checkpoint_every": 0,
            "sample_every": 0, "log_every": 100}
SAMPLING_STEPS = 50


# Configurations of equal size


def parameters(model):
    """Trained parameters of a model, from the published DiT's tensors and what each key adds or leaves out."""
    d, depth, heads = model["hidden_size"], model["depth"], model["num_heads"]
    patch = model["patch_size"] ** 2 * model["in_channels"]
    tokens = (model["input_size"] // model["patch_size"]) ** 2
    hidden = model.get("mlp_hidden") or int(d * model.get("mlp_ratio", 4))
    conditioning = model.get("conditioning", "adaln_zero")
    is_rms, biased = model.get("norm") == "rms", model.get("bias", True) is not False
    modulated = conditioning.startswith("adaln")
    own = 0 if modulated and not is_rms else d if is_rms else 2 * d  # of each norm
    modulation = {"adaln_zero": 6 * d * d + 6 * d, "adaln": 4 * d * d + 4 * d}.get(conditioning, 0) + 2 * own
    final = (2 * d * d + 2 * d if modulated else 0) + own
    gate_size = d // 4
    gated = model.get("attention", {}).get("mask", "none") != "none"
    gate = d * gate_size + gate_size + gate_size * heads + heads if gated else 0
    gate += 2 * d if model.get("residual_gates") == "vector" else 0
    norms = 2 * d // heads if model.get("qk_norm") else 0
    first = 2 * hidden if model.get("mlp") == "swiglu" else hidden
    biases = 4 * d + first + d if biased else 0
    block = 4 * d * d + d * first + d * hidden + biases + modulation + gate + norms
    outputs = patch * (2 if model.get("learn_sigma", True) else 1)
    bottleneck = model.get("patch_bottleneck")
    narrow_bias = not isinstance(model.get("bias"), dict) or model["bias"].get("patch_bottleneck", True)
    embedding = bottleneck * (patch + narrow_bias + d) + d if bottleneck else patch * d + d
    prefix = sum(model.get("token_groups", {}).values()) or model.get("in_context_tokens", 0)
    table = model.get("position", "").startswith("learned")
    tokens += prefix if table and "token_groups" in model else 0
    ends = (embedding + 256 * d + d + d * d + d + (model["num_classes"] + 1) * d + prefix * d + final + d * outputs
            + outputs)
    return depth * block + ends + (tokens * d if table else 0)


def configuration(data, variant, quick):
    """{"model", "training", "sampling"} of a variant: its MLP takes up what the published DiT has more or less."""
    base = SETS[data]
    changes = VARIANTS[variant]
    model = {**base["model"], **{key: value for key, value in changes.items() if not key.startswith("training.")}}
    wanted = parameters(base["model"])
    d = model["hidden_size"]
    if parameters(model) != wanted:
        widths = range(8, 16 * d, 8)
        best = min(widths, key=lambda width: abs(parameters({**model, "mlp_hidden": width}) - wanted))
        if "mlp" in model:
            model["mlp_hidden"] = best
        elif best != 4 * d:
            model["mlp_ratio"] = (best + 0.25) / d  # cut to `best`, whatever the rounding
    training = {**base["training"], **TRAINING}
    training.update({key.removeprefix("training."): value for key, value in changes.items() if key.startswith("training.")})
    if quick:
        training.update(steps=12, warmup_steps=2, log_every=4)
    training["validate_every"] = training["steps"]
    diffusion = model.get("diffusion", {})
    is_flow = diffusion.get("prediction") == "flow" or diffusion.get("path") == "linear"
    sampling = {"sampler": "euler" if is_flow else "ddpm", "steps": 5 if quick else SAMPLING_STEPS,
                "schedule": "linspace" if is_flow else "leading", "guidance": 1}
    return {"model": model, "training": training, "sampling": sampling}


class Ablation:
    def __init__(self, arguments):
        self.dit = study.find_dit(arguments.dit)
        self.evaluator = arguments.evaluator.split() if arguments.evaluator else [self.dit]
        self.quick, self.jobs = arguments.quick, arguments.jobs
        self.work = Path(arguments.work).resolve() / ("quick" if self.quick else "ablation")
        self.seeds = SEEDS[:2] if self.quick else SEEDS
        self.chosen = [variant.strip() for variant in arguments.variants.split(";")] if arguments.variants else []
        unknown = set(self.chosen) - set(VARIANTS)
        if unknown:
            raise study.Failed(f"--variants: expected names of variants, found {', '.join(sorted(unknown))}")
        self.digits = [PUBLISHED, "temperature sqrt_beta", "mask soft, window signal", "prediction flow"] \
            if self.quick else list(dict.fromkeys([PUBLISHED, *self.chosen])) if self.chosen else list(VARIANTS)
        self.documentation = self.work / "Documentation" if self.quick else study.DOCUMENTATION

    # Where things lie

    def folder(self, data, variant, seed):
        return self.work / data / variant.replace(",", "").replace(" ", "-") / f"seed-{seed}"

    def samples(self, data, variant, seed):
        return self.folder(data, variant, seed).with_suffix(".samples.safetensors")

    def judgement(self, data, variant, seed):
        return self.folder(data, variant, seed).with_suffix(".judged.json")

    def noise(self, data, seed):
        return self.work / data / f"noise-{seed}.safetensors"

    # Training and sampling

    def make(self, data, variant, seed):
        folder = self.folder(data, variant, seed)
        seconds = study.train(self.dit, data, configuration(data, variant, self.quick), folder, seed=seed)
        study.sample(self.dit, folder, self.noise(data, seed), self.samples(data, variant, seed), "--seed", seed)
        note(f"{data}, {variant}, seed {seed}: trained in {seconds:.0f} s")

    def train(self, data, variants):
        for seed in self.seeds:
            study.make_noise(self.noise(data, seed), data, seed)
        # Seeds outermost: after a third of the time there is a whole, if weaker, study.
        tasks = [lambda v=v, s=s: self.make(data, v, s) for s in self.seeds for v in variants]
        study.side_by_side(self.jobs, tasks)

    # Judging

    def judge(self, data, variants):
        from classifiers import Classifier

        missing = [(v, s) for v in variants for s in self.seeds if not self.judgement(data, v, s).exists()]
        if not missing:
            return
        classifier = Classifier(data)
        study.write_json(self.work / data / "classifier.json", {"accuracy": classifier.accuracy})
        for variant, seed in missing:
            path = self.samples(data, variant, seed)
            if not path.exists():
                raise study.Failed(f"{path}: expected samples; run the training phase first")
            result = study.evaluate(
                self.evaluator, path, study.DATA[data], path.with_suffix(".json"), "--features", SETS[data]["features"],
                "--measures", "frechet,precision", "--no-per-class")
            tensors = study.load_tensors(path)
            images = tensors.get("images", tensors["samples"]).astype(np.float64)
            validation = [line for line in study.log(self.folder(data, variant, seed)) if "validation_mse" in line][-1]
            info = json.loads(study.command([self.dit, "info", self.folder(data, variant, seed), "--json"]))
            study.write_json(self.judgement(data, variant, seed), {
                "frechet": result["frechet"]["distance"],
                "precision": result["precision_recall"]["precision"], "recall": result["precision_recall"]["recall"],
                "agreement": classifier.agreement(images, tensors["labels"]),
                "validation": validation["validation_mse"],
                "parameters": info["model"]["trainable_parameters"],
            })
        note(f"{data}: judged")

    def column(self, data, variant, key):
        return [study.read_json(self.judgement(data, variant, seed))[key] for seed in self.seeds]

    # The colour set's variants

    def best_attention(self):
        """The two attention variants whose geometric mean distance on digits is smallest.

        With a full window nothing is outside, so that soft and hard are one network: it is taken once.
        """
        variants = [v for v in self.digits if v in ATTENTION and v != "mask hard, window full"]
        if not all(self.judgement("digits", v, s).exists() for v in variants for s in self.seeds):
            return None
        return sorted(variants, key=lambda v: np.log(self.column("digits", v, "frechet")).mean())[:2]

    def colour(self, needs_all=True):
        best = self.best_attention()
        if best is None and needs_all:
            raise study.Failed("the colour set's attention variants are chosen by the digits: run judge-digits first")
        fixed = [PUBLISHED] if self.quick else [PUBLISHED, "lambda_seq 0.1"]
        return fixed + (best or [])

    # Seconds a step

    def time(self):
        """Medians over rounds in which all variants take turns; one thread, nothing else of ours running."""
        path = self.work / "seconds.json"
        if path.exists():
            return
        result = {}
        for data, variants in (("digits", self.digits), ("emoji", self.colour())):
            seconds = {variant: [] for variant in variants}
            for _ in range(1 if self.quick else 5):
                for variant in variants:
                    settings = configuration(data, variant, self.quick)
                    settings["training"].update(steps=12, validate_every=0, log_every=1)
                    folder = self.work / "timing"
                    (folder / "done.json").unlink(missing_ok=True)
                    study.train(self.dit, data, settings, folder)
                    lines = [line["seconds"] for line in study.log(folder) if "seconds" in line]
                    seconds[variant].append(statistics.median(lines[3:]))
            result[data] = {variant: statistics.median(values) for variant, values in seconds.items()}
            note(f"{data}: timed")
        study.write_json(path, result)

    # The report

    def added(self, value):
        """What the study's file has, with the chosen variants of the digits measured here beside it."""
        result = value["sets"]["digits"]
        rows, here = result["variants"], {}
        for v in self.digits:
            judged = {key: self.column("digits", v, key) for key in
                      ("frechet", "precision", "recall", "agreement", "validation", "parameters")}
            here[v] = {**judged, "parameters": judged["parameters"][0], **self.told("digits", v), "seconds_a_step": None}
        base = here.pop(PUBLISHED)["frechet"]
        added = {v: {**row, "against": base, "machine": study.machine(self.dit)} for v, row in here.items()}
        rows = {v: {**(added.get(v) or rows[v])} for v in VARIANTS if v in added or v in rows}
        tests = paired_tests({v: row["frechet"] for v, row in rows.items()}, {v: row["against"] for v, row in rows.items() if "against" in row})
        for v, row in rows.items():
            row.update(tests["variants"].get(v, {}))
        result["variants"] = rows
        result["test"] = {key: tests[key] for key in ("degrees", "deviation", "detectable_ratio")}
        return value

    def told(self, data, variant):
        settings = configuration(data, variant, self.quick)
        return {"target": settings["model"].get("diffusion", {}).get("prediction", "epsilon"),
                "mlp_hidden": int(settings["model"]["hidden_size"] * settings["model"].get("mlp_ratio", 4))}

    def results(self, data, variants):
        """Everything that the tables say of one data set."""
        judged = {v: {key: self.column(data, v, key) for key in
                      ("frechet", "precision", "recall", "agreement", "validation", "parameters")} for v in variants}
        seconds = study.read_json(self.work / "seconds.json", {}).get(data, {})
        tests = paired_tests({v: judged[v]["frechet"] for v in variants})
        rows = {}
        for v in variants:
            rows[v] = {**judged[v], "parameters": judged[v]["parameters"][0], "seconds_a_step": seconds.get(v),
                       **self.told(data, v), **tests["variants"].get(v, {})}
        published = configuration(data, PUBLISHED, self.quick)
        return {"model": published["model"], "training": published["training"], "sampling": published["sampling"],
                "features": SETS[data]["features"], "real_against_real": self.floor(data),
                "classifier_accuracy": study.read_json(self.work / data / "classifier.json")["accuracy"],
                "test": {key: tests[key] for key in ("degrees", "deviation", "detectable_ratio")}, "variants": rows}

    def floor(self, data):
        """The distance of the real training images (i mod 5 /= 4) to all real ones: what a perfect model might reach."""
        images, labels = study.real(data)
        chosen = ~study.is_test(len(labels))
        path = self.work / data / "real.safetensors"
        study.save_tensors(path, {"images": images[chosen].astype(np.float32)})
        result = study.evaluate(self.evaluator, path, study.DATA[data], path.with_suffix(".json"), "--features",
                                SETS[data]["features"], "--measures", "frechet", "--no-per-class")
        return result["frechet"]["distance"]

    def report(self):
        if self.chosen:
            value = self.added(study.read_json(self.documentation / "studies" / "ablation.json"))
        else:
            seconds_spent = sum(study.read_json(path)["seconds"] for path in self.work.glob("*/*/*/done.json"))
            value = {
                "study": "ablation", "seeds": self.seeds, "quick": self.quick, "machine": study.machine(self.dit),
                "training_core_seconds": round(seconds_spent),
                "sets": {"digits": self.results("digits", self.digits), "emoji": self.results("emoji", self.colour())},
            }
        study.write_json(self.documentation / "studies" / "ablation.json", value)
        page = self.documentation / "Ablation.md"
        if not page.exists():
            marks = "".join(f"<!-- ablation-{data}:begin -->\n<!-- ablation-{data}:end -->\n\n" for data in SETS)
            study.write_text(page, f"# What each idea is worth\n\n{marks}![](ablation.png)\n")
        for data in SETS:
            study.between_markers(page, f"ablation-{data}", tables(value["sets"][data], self.seeds))
        draw(value, self.documentation / "ablation.png")
        note(f"{page} and {self.documentation / 'studies' / 'ablation.json'} written")

    PHASES = ("train-digits", "judge-digits", "train-colour", "judge-colour", "time", "report")

    def run(self, phases):
        if "train-digits" in phases:
            self.train("digits", self.digits)
        if "judge-digits" in phases:
            self.judge("digits", self.digits)
        if "train-colour" in phases:
            variants = self.colour(needs_all=False)
            self.train("emoji", variants)
            if self.best_attention() is None:
                note("emoji: the attention variants wait for judge-digits; run train-colour again after it")
        if "judge-colour" in phases:
            self.judge("emoji", self.colour())
        if "time" in phases:
            self.time()
        if "report" in phases:
            self.report()


# Statistics


def paired_tests(distances, against={}):
    """Each variant against the published DiT, on the logarithm of the distance, pairs being runs of one seed.

    t: the paired t test of the variant's own seeds (n-1 degrees of freedom: with three seeds it sees only what is large
    against its own scatter). p: the same difference over the residual of log distance = variant + seed, pooled over all
    variants: it assumes that the scatter between seeds is alike in relative terms, and has (variants-1)(seeds-1) degrees.
    holm: p after Holm's correction for all comparisons of the table. detectable_ratio: the smallest ratio of distances
    that p would call different at 5 % in four of five such studies, before the correction. against: distances of the published DiT
    where a variant was measured on another machine, whose rounding is another.
    """
    names = list(distances)
    logs = np.log(np.array([distances[name] for name in names]))
    variants, seeds = logs.shape
    residual = logs - logs.mean(1, keepdims=True) - logs.mean(0, keepdims=True) + logs.mean()
    degrees = (variants - 1) * (seeds - 1)
    deviation = math.sqrt((residual**2).sum() / degrees)
    error = deviation * math.sqrt(2 / seeds)
    rows = {}
    for name, values in zip(names, logs):
        if name == PUBLISHED:
            continue
        difference = values - (np.log(against[name]) if name in against else logs[names.index(PUBLISHED)])
        own = difference.std(ddof=1) / math.sqrt(seeds)
        rows[name] = {
            "ratio": math.exp(difference.mean()),
            "t": float(2 * stats.t.sf(abs(difference.mean()) / own, seeds - 1)),
            "p": float(2 * stats.t.sf(abs(difference.mean()) / error, degrees)),
        }
    running = 0.0
    for rank, name in enumerate(sorted(rows, key=lambda name: rows[name]["p"])):
        running = max(running, min(1.0, rows[name]["p"] * (len(rows) - rank)))
        rows[name]["holm"] = running
    reach = stats.t.ppf(0.975, degrees) + stats.t.ppf(0.8, degrees)
    return {"degrees": degrees, "deviation": deviation, "detectable_ratio": math.exp(reach * error), "variants": rows}


def chance(p):
    return "" if p is None else ("< 0.0001" if p < 0.0001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}")


def tables(result, seeds):
    published = result["variants"][PUBLISHED]
    rows = []
    for name, row in result["variants"].items():
        seconds = row["seconds_a_step"]
        relative = seconds / published["seconds_a_step"] if seconds else None
        rows.append([
            name, study.mean_and_deviation(row["frechet"], 3), f"{row['ratio']:.2f}" if "ratio" in row else "1",
            chance(row.get("t")), chance(row.get("p")), chance(row.get("holm")),
            study.mean_and_deviation(row["agreement"], 3), study.mean_and_deviation(row["validation"], 4), row["target"],
            f"{1000 * seconds:.1f} ({relative:.2f})" if seconds else "–", row["parameters"],
        ])
    header = ["variant", "Fréchet distance", "ratio of geometric means", "p, its seeds", "p, pooled", "p, Holm", "class agreement",
              "validation mse", "of", "ms a step", "parameters"]
    counts = [row["parameters"] for row in result["variants"].values()]
    spread = max(abs(count / published["parameters"] - 1) for count in counts)
    test = result["test"]
    facts = (
        f"{len(seeds)} seeds, {result['training']['steps']} steps of {result['training']['batch']}. Real training images against "
        f"all real ones: {result['real_against_real']:.3f}. The classifier sees {result['classifier_accuracy']:.3f} of held-out "
        f"real images right. Parameters agree to {100 * spread:.2f} %. Pooled: relative deviation {test['deviation']:.3f} between "
        f"seeds, {test['degrees']} degrees of freedom, which tells a ratio of {test['detectable_ratio']:.2f} (or its inverse) from 1 "
        f"in four studies of five.")
    added = [row for row in result["variants"].values() if "against" in row]
    if added:
        where = added[0]["machine"]
        facts += (f" Rows without seconds were added on {where['date']} on {where['cpu']} ({where['isa']}) and are compared with the published "
                  f"DiT trained there: {study.mean_and_deviation(added[0]['against'], 3)}.")
    return study.table(header, rows) + "\n\n" + facts


def draw(value, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets = value["sets"]
    heights = [len(sets[data]["variants"]) for data in sets]
    figure, axes = plt.subplots(len(sets), 1, figsize=(8, 1.6 + 0.27 * sum(heights)), height_ratios=heights,
                                layout="constrained")
    for axis, (data, result) in zip(axes, sets.items()):
        names = list(result["variants"])
        for y, name in enumerate(names):
            values = result["variants"][name]["frechet"]
            axis.plot(values, [y] * len(values), "o", ms=4, color="tab:gray", alpha=0.7)
            axis.plot([np.exp(np.log(values).mean())], [y], "|", ms=14, mew=2.5, color="tab:blue")
        axis.axvline(np.exp(np.log(result["variants"][PUBLISHED]["frechet"]).mean()), color="tab:blue", lw=0.8, ls=":")
        axis.axvline(result["real_against_real"], color="tab:green", lw=0.8, ls="--")
        axis.set(xscale="log", yticks=range(len(names)), yticklabels=names, title=data,
                 xlabel=f"Fréchet distance to all real images ({result['features']}); green: real training images")
        axis.invert_yaxis()
        axis.grid(axis="x", which="both", alpha=0.25)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dit", help="the built tool (.build/release/dit, else the one on the path)")
    parser.add_argument("--evaluator", help="what to call for `evaluate` instead of it")
    parser.add_argument("--work", default=study.ROOT / "runs" / "studies", help="where runs are kept (runs/studies)")
    parser.add_argument("--phases", default=",".join(Ablation.PHASES), help="some of " + ",".join(Ablation.PHASES))
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each (2)")
    parser.add_argument("--variants", help="some of the digits' variants, between semicolons")
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    arguments = parser.parse_args()
    phases = arguments.phases.split(",")
    unknown = set(phases) - set(Ablation.PHASES)
    if unknown:
        parser.error(f"--phases: expected some of {', '.join(Ablation.PHASES)}, found {', '.join(sorted(unknown))}")
    Ablation(arguments).run(phases)


if __name__ == "__main__":
    study.main(main)
