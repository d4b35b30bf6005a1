"""What is timed: the works and who takes part in each; their arithmetic; their weights and inputs.

A work is one amount of arithmetic (a network, a batch, a precision) that several entries do: ours in one or more modes,
and the peers. `Entry.request` is the work of the protocol that is sent to a worker.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import families

RECIPE = 1  # raise it when weights or inputs are made differently: files in the cache carry it


def network(hidden, depth, heads, size=32):
    return {
        "input": [size, size], "patch": 2, "channels": 4, "hidden": hidden, "depth": depth, "heads": heads,
        "classes": 1000, "learn_sigma": True,
    }


NETWORKS = {
    "S/2": network(384, 12, 6),
    "B/2": network(768, 12, 12),
    "L/2": network(1024, 24, 16),
    "XL/2": network(1152, 28, 16),
    "XL/2 at 64x64": network(1152, 28, 16, size=64),
    "digits": {
        "input": [8, 8], "patch": 2, "channels": 1, "hidden": 128, "depth": 6, "heads": 4, "classes": 10,
        "learn_sigma": True,
    },
}
NETWORKS |= {name: {"published": name} for name in families.available()}
FORWARDS = [  # network, batch, the smallest run that has it
    ("digits", 1, "quick"), ("S/2", 1, "quick"), ("S/2", 2, "default"), ("S/2", 8, "default"),
    ("B/2", 1, "default"), ("B/2", 2, "default"), ("B/2", 8, "default"),
    ("L/2", 1, "full"), ("L/2", 2, "full"), ("L/2", 8, "full"),
    ("XL/2", 1, "default"), ("XL/2", 2, "default"), ("XL/2", 8, "full"), ("XL/2 at 64x64", 1, "default"),
]
INT8 = [(name, batch) for name in ("S/2", "B/2", "XL/2", "JiT-B/16") for batch in (1, 2)]  # of FORWARDS, and of families
TRAININGS = [("S/2", 8, "quick"), ("S/2", 32, "default"), ("B/2", 8, "default")]
SAMPLINGS = [("S/2", 1, "full")]
PICTURES = [("XL/2", 1, "full")]  # from a class to a PNG, whole processes: pipeline.py
SAMPLING_STEPS = 50
WITH_GEMMS = {("S/2", 1), ("B/2", 1), ("XL/2", 1)}  # ours also with each of its two ways of fp32 products
RUNS = ["quick", "default", "full"]  # each has the works of those before it


@dataclass(frozen=True)
class Entry:
    """One engine's way of doing a work. `label` is its name in the results: "ours" is the one that others are set against."""

    label: str
    engine: str
    options: dict = field(default_factory=dict)
    precision: str | None = None  # when it is not the work's

    def request(self, work, files):
        """The protocol's work; `files` are its weights, inputs and output."""
        request = {
            "kind": "train" if work.kind == "memory" else work.kind, "config": NETWORKS[work.network],
            "batch": work.batch, "precision": self.precision or work.precision,
        }
        if work.kind == "forward":
            request |= {"mode": "single", "gemm": "auto"}
        elif work.kind == "sample":
            request |= {"steps": SAMPLING_STEPS}
        else:
            request |= {"recompute": False}
        return request | self.options | files


@dataclass(frozen=True)
class Work:
    kind: str  # forward, train, sample, memory or picture
    network: str
    batch: int
    precision: str
    run: str
    entries: tuple

    @property
    def name(self):
        kind = f"sample {SAMPLING_STEPS} steps," if self.kind == "sample" else self.kind
        return f"{kind} {self.network} batch {self.batch} {self.precision}"

    @property
    def config(self):
        return NETWORKS[self.network]

    def multiply_adds(self, entry):
        """Of one call of this entry. A training step counts three forwards: one, and two products backward for each."""
        if self.kind == "sample":
            return SAMPLING_STEPS * forward_multiply_adds(self.config, 2 * self.batch)
        forward = forward_multiply_adds(self.config, self.batch, entry.options.get("mode", "single"))
        return 3 * forward if self.kind == "train" else forward

    def bytes_needed(self):
        """A generous guess of one worker's memory: the weights twice, or with gradients and moments, and activations."""
        config = self.config
        if "published" in config:
            return 4 << 30
        weights = 4 * parameters(config)
        activations = 4 * self.batch * tokens(config) * config["hidden"]
        if self.kind in ("train", "memory"):
            return 5 * weights + 45 * config["depth"] * activations
        return 2 * weights + 30 * activations + (400 << 20)


def all_works():
    peers = {
        "fp32": [Entry("torch", "torch"), Entry("openvino", "openvino"), Entry("onnxruntime", "onnxruntime")],
        "bf16": [Entry("torch", "torch"), Entry("openvino", "openvino")],
    }
    both = [Entry("ours", "ours"), Entry("ours, steady", "ours", {"mode": "steady"})]
    works = []
    for precision in ("fp32", "bf16"):
        for name, batch, run in FORWARDS:
            entries = list(both)
            if precision == "fp32" and (name, batch) in WITH_GEMMS:
                entries += [Entry(f"ours, {gemm}", "ours", {"gemm": gemm}) for gemm in ("blas", "packed")]
            entries += peers[precision]
            works.append(Work("forward", name, batch, precision, run, tuple(entries)))
    for name in families.available():
        for precision in ("fp32", "bf16"):
            entries = [*both, Entry("torch", "torch"), Entry("openvino", "openvino")]
            works.append(Work("forward", name, 1, precision, "full", tuple(entries)))
    for name, batch in INT8:
        if name in NETWORKS:
            run = "full" if "published" in NETWORKS[name] else "default"
            works.append(Work("forward", name, batch, "int8", run, (*both, Entry("openvino", "openvino"))))
    for precision in ("fp32", "bf16"):
        for name, batch, run in TRAININGS:
            entries = [Entry("ours", "ours"), Entry("torch", "torch")]
            if precision == "fp32":
                entries.append(Entry("jax", "jax"))
            works.append(Work("train", name, batch, precision, run, tuple(entries)))
        for name, batch, run in SAMPLINGS:
            works.append(Work("sample", name, batch, precision, run, (Entry("ours", "ours"), Entry("torch", "torch"))))
    memory = (
        Entry("ours", "ours"), Entry("ours, recompute", "ours", {"recompute": True}),
        Entry("ours, bf16", "ours", precision="bf16"), Entry("torch", "torch"),
    )
    works.append(Work("memory", "S/2", 32, "fp32", "default", memory))
    picture = (
        Entry("ours", "ours"), Entry("ours, fp32", "ours"), Entry("ours, fast", "ours"), Entry("torch", "torch"),
        Entry("torch, fp32", "torch"), Entry("torch, default bf16", "torch"), Entry("torch, default fp32", "torch"),
    )
    works += [Work("picture", name, batch, "bf16", run, picture) for name, batch, run in PICTURES]
    return works


def tokens(config):
    return (config["input"][0] // config["patch"]) * (config["input"][1] // config["patch"])


def outputs(config):
    """Of a token: P P C'."""
    return config["patch"] ** 2 * config["channels"] * (2 if config["learn_sigma"] else 1)


def forward_multiply_adds(config, batch, mode="single"):
    """Of every product of a forward pass. In the mode "steady" the conditioning is there already."""
    if "published" in config:
        return batch * families.multiply_adds(config["published"], mode)
    hidden, depth, length = config["hidden"], config["depth"], tokens(config)
    block = length * 12 * hidden**2 + 2 * length**2 * hidden
    embedding = length * config["channels"] * config["patch"] ** 2 * hidden
    final = length * hidden * outputs(config)
    conditioning = 256 * hidden + hidden**2 + depth * 6 * hidden**2 + 2 * hidden**2
    return batch * (embedding + depth * block + final + (conditioning if mode == "single" else 0))


def shapes(config):
    """Published name -> shape."""
    hidden, patch, channels = config["hidden"], config["patch"], config["channels"]

    def linear(name, rows, columns):
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    found = {"pos_embed": (1, tokens(config), hidden)}
    found |= {"x_embedder.proj.weight": (hidden, channels, patch, patch), "x_embedder.proj.bias": (hidden,)}
    found |= linear("t_embedder.mlp.0", hidden, 256) | linear("t_embedder.mlp.2", hidden, hidden)
    found |= {"y_embedder.embedding_table.weight": (config["classes"] + 1, hidden)}
    for index in range(config["depth"]):
        block = f"blocks.{index}"
        found |= linear(f"{block}.attn.qkv", 3 * hidden, hidden) | linear(f"{block}.attn.proj", hidden, hidden)
        found |= linear(f"{block}.mlp.fc1", 4 * hidden, hidden) | linear(f"{block}.mlp.fc2", hidden, 4 * hidden)
        found |= linear(f"{block}.adaLN_modulation.1", 6 * hidden, hidden)
    found |= linear("final_layer.linear", outputs(config), hidden)
    return found | linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden)


def parameters(config):
    return sum(int(np.prod(shape)) for shape in shapes(config).values())


def positions(config):
    """pos_embed: a half for the column, a half for the row; each [sin | cos], in Double; (1, L, D)."""
    rows, columns = (size // config["patch"] for size in config["input"])
    quarter = config["hidden"] // 4
    frequencies = 10000.0 ** (-np.arange(quarter) / quarter)

    def half(places):
        angles = np.outer(places, frequencies)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.concatenate([half(column), half(row)], axis=1)[None].astype(np.float32)


def random_weights(config, seed=1):
    """A network that is alive: as at the start of training, but with gates, modulations and biases that are not zero."""
    if "published" in config:
        return families.weights(config["published"])
    random = np.random.default_rng(seed)

    def normal(shape, deviation):
        return random.standard_normal(shape, dtype=np.float32) * np.float32(deviation)

    def tensor(name, shape):
        if name == "pos_embed":
            return positions(config)
        if name.endswith(".bias"):  # a modulation of about 0.2, that the time and the label move a little
            return normal(shape, 0.2 if "adaLN" in name else 0.02)
        if "adaLN" in name or "embedding_table" in name:
            return normal(shape, 0.02)
        fan_out, fan_in = shape[0], int(np.prod(shape[1:]))
        bound = np.float32((6 / (fan_in + fan_out)) ** 0.5)
        return (2 * random.random(shape, dtype=np.float32) - 1) * bound

    return {name: tensor(name, shape) for name, shape in shapes(config).items()}


def random_inputs(config, batch, seed=2):
    random = np.random.default_rng([seed, batch])
    if "published" in config:
        return families.inputs(config["published"], batch, random)
    shape = (batch, config["channels"], *config["input"])
    return {
        "x": random.standard_normal(shape, dtype=np.float32),
        "t": random.integers(0, 1000, batch).astype(np.float32),
        "y": random.integers(0, config["classes"], batch),
        "target": random.standard_normal(shape, dtype=np.float32),
    }


def files(work, cache: Path):
    """Paths of the work's weights and inputs, made if they are not there yet."""
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{work.network.replace('/', '-').replace(' ', '-')}-{RECIPE}"
    weights, inputs = cache / f"{name}.safetensors", cache / f"{name}-inputs-{work.batch}.safetensors"
    for path, make in [
        (weights, lambda: random_weights(work.config)), (inputs, lambda: random_inputs(work.config, work.batch)),
    ]:
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            save_file(make(), unfinished)
            unfinished.replace(path)
    return {"weights": str(weights), "inputs": str(inputs)}
