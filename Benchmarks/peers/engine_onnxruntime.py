"""ONNX Runtime's CPU provider over the PyTorch network, exported with static shapes; every graph optimisation is on."""

import tempfile
from pathlib import Path

import onnxruntime
import torch

from engine_torch import load
from worker import Unsupported

NAMES = ["x", "t", "y"]


def describe():
    return {"version": onnxruntime.__version__, "detail": {"providers": " ".join(onnxruntime.get_available_providers())}}


def prepare(work, threads):
    if (work["kind"], work["precision"], work.get("mode", "single")) != ("forward", "fp32", "single"):
        raise Unsupported(f"{work['kind']} {work['precision']} {work.get('mode', '')}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        inputs = export(work, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["output"], inputs)[0]


def export(work, path):
    """Writes the network, its weights beside it, and answers the inputs."""
    model, inputs = load(work)
    torch.onnx.export(
        model.eval(), tuple(inputs), path, input_names=NAMES, output_names=["output"], dynamo=True, external_data=True,
        opset_version=20, verbose=False)
    return {name: value.numpy() for name, value in zip(NAMES, inputs)}
