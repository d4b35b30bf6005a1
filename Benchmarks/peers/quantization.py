"""How far OpenVINO's int8 is off: |y_int8 − y_fp32| / |y_fp32| of a network's output, at ten times over the whole range.

    python quantization.py S/2                                   (random weights, as the benchmark makes them)
    python quantization.py S/2 --weights model.safetensors
    python quantization.py ../../Sources/dit/Resources/digits-model --data ../../Sources/dit/Resources/digits.safetensors

MODEL is a name of works.py or a folder with config.json and weights. y_fp32 is PyTorch's. OUT gets inputs.safetensors
(x, t, y and reference, which is y_fp32), so that another engine can be measured on the same inputs and weights,
output.safetensors and the quantized network. Standard output has the table.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from safetensors.numpy import load_file, save_file

import calibration
import engine_openvino
import report
import works
from engine_torch import load

TIMES = 10
ROOT = Path(__file__).resolve().parent.parent.parent


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="F32 safetensors with the published names")
    parser.add_argument("--data", type=Path, metavar="FILE", help="images and labels that x_0 is taken from")
    parser.add_argument("--recipe", choices=calibration.RECIPES, default=calibration.USED, help=f"({calibration.USED})")
    count = calibration.COUNT
    parser.add_argument("--calibration", type=int, default=count, metavar="N", help=f"inputs to calibrate on ({count})")
    parser.add_argument("--inputs", type=int, default=4, metavar="N", help="of each time (4)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="(2)")
    default = ROOT / "runs" / "quantization"
    parser.add_argument("--out", type=Path, default=default, metavar="OUT", help="(runs/quantization)")
    return parser.parse_args()


def network(arguments):
    """The configuration and the path of the weights."""
    folder = Path(arguments.model)
    if arguments.model not in works.NETWORKS and (folder / "config.json").is_file():
        found = [folder / name for name in ("ema.safetensors", "model.safetensors") if (folder / name).exists()]
        return configuration(json.loads((folder / "config.json").read_text())), arguments.weights or found[0]
    config = works.NETWORKS[arguments.model]
    if arguments.weights:
        return config, arguments.weights
    path = arguments.out / "weights.safetensors"
    save_file(works.random_weights(config), path)
    return config, path


def configuration(read):
    size = read["input_size"]
    return {
        "input": size if isinstance(size, list) else [size, size], "patch": read["patch_size"],
        "channels": read["in_channels"], "hidden": read["hidden_size"], "depth": read["depth"],
        "heads": read["num_heads"], "classes": read["num_classes"], "learn_sigma": read.get("learn_sigma", True),
        "schedule": read.get("diffusion", {}).get("schedule", "linear"),
    }


def evaluation(config, count, data):
    """`count` inputs of each of the times, the first to the last."""
    last = 1 if "published" in config else 999 / 1000 + 1e-9
    shares = np.repeat(np.linspace(0, last, TIMES), count)
    return calibration.noisy(config, shares, np.random.default_rng(4), data)


def run(model, batches, hint, threads):
    """The outputs, and the median seconds of a call with one batch."""
    inputs = [np.ascontiguousarray(value) for value in batches[0]]
    compiled = engine_openvino.compiled(model.clone(), inputs, hint, threads)
    outputs, seconds = [], []
    for batch in batches:
        start = time.perf_counter()
        outputs.append(compiled(batch)[0].copy())
        seconds.append(time.perf_counter() - start)
    return np.concatenate(outputs), float(np.median(seconds))


def main():
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    config, weights = network(arguments)
    data = load_file(arguments.data) if arguments.data else None
    inputs = arguments.out / "inputs.safetensors"
    x, t, y = evaluation(config, arguments.inputs, data)
    save_file({"x": x, "t": t, "y": y}, inputs)
    work = {"config": config, "weights": str(weights), "inputs": str(inputs)}

    size = arguments.inputs
    batches = [[array[start : start + size] for array in (x, t, y)] for start in range(0, len(t), size)]
    reference = references(work, batches)
    save_file({"x": x, "t": t, "y": y, "reference": reference}, inputs)

    model = engine_openvino.convert(work, batch=-1)
    start = time.perf_counter()
    samples = calibration.calibration(config, arguments.calibration, data=data)
    quantized = calibration.quantized(model.clone(), samples, arguments.recipe)
    seconds = time.perf_counter() - start
    ov.save_model(quantized, arguments.out / "int8.xml", compress_to_fp16=False)

    columns = {"int8, rest fp32": (quantized, "f32"), "int8, rest bf16": (quantized, "bf16"), "bf16": (model, "bf16")}
    outputs = {}
    for name, (network_, hint) in columns.items():
        outputs[name], call = run(network_, batches, hint, arguments.threads)
        print(f"{name}: {1e3 * call:.0f} ms a batch of {size}", file=sys.stderr)
    save_file({"output": outputs["int8, rest fp32"]}, arguments.out / "output.safetensors")
    rows = [
        [f"{times[0]:g}", *(f"{error(output[part], reference[part]):.4f}" for output in outputs.values())]
        for times, part in zip((b[1] for b in batches), slices(len(batches), size), strict=True)
    ]
    rows.append(["all", *(f"{error(output, reference):.4f}" for output in outputs.values())])
    print(f"{arguments.model}, {weights}: recipe {arguments.recipe}, {arguments.calibration} inputs, {seconds:.0f} s\n")
    print(report.table(["t", *columns], rows))


def references(work, batches):
    model = load(work)[0].eval()
    with torch.no_grad():
        return np.concatenate([model(*map(torch.from_numpy, batch)).numpy() for batch in batches])


def slices(count, size):
    return [slice(index * size, (index + 1) * size) for index in range(count)]


def error(found, expected):
    return np.linalg.norm(found.astype(np.float64) - expected) / np.linalg.norm(expected.astype(np.float64))


if __name__ == "__main__":
    main()
