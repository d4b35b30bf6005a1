"""OpenVINO's CPU device over the PyTorch network, converted with static shapes; the precision is its inference hint.

int8 is a network quantized by NNCF (see calibration.py), kept beside its weights; what stays in floating point is in bf16,
its fastest, where the CPU has bf16 products.
"""

import openvino as ov
import torch

import calibration
import families
from engine_torch import load
from worker import Unsupported

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}


def describe():
    core = ov.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"version": ov.get_version().split("-")[0], "detail": {"capabilities": " ".join(capabilities)}}


def prepare(work, threads):
    if (work["kind"], work.get("mode", "single")) != ("forward", "single") or work["precision"] not in HINTS:
        raise Unsupported(f"{work['kind']} {work['precision']} {work.get('mode', '')}")
    has_bf16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if work["precision"] == "bf16" and not has_bf16:
        raise Unsupported("this CPU has no bf16 products")
    inputs = load(work)[1]
    model = quantized(work) if work["precision"] == "int8" else convert(work)
    request = compiled(model, inputs, HINTS[work["precision"]] if has_bf16 else "f32", threads).create_infer_request()
    for index, value in enumerate(inputs):
        request.set_input_tensor(index, ov.Tensor(value.numpy().copy()))
    output = request.get_output_tensor(0).data

    def forward():
        request.infer()
        return output

    return forward


def compiled(model, inputs, hint, threads):
    """The model for inputs of these shapes."""
    model.reshape({port: list(value.shape) for port, value in zip(model.inputs, inputs, strict=True)})
    return ov.Core().compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": hint,
    })


def convert(work, batch=None):
    """The network for the batch of the work's inputs, or another one; -1 is any."""
    model, inputs = load(work)
    if work["config"].get("published", "").startswith("pMF"):
        families.rotate_in_reals(model.network)
    arguments = tuple(inputs)
    shapes = [[batch or len(a), *a.shape[1:]] for a in arguments]
    with torch.no_grad():
        return ov.convert_model(model.eval(), example_input=arguments, input=shapes)


def quantized(work):
    """The network in int8 for any batch: from the cache, made if it is not there yet, which takes minutes."""
    if work["config"].get("published", "").startswith("pMF"):
        raise Unsupported("pMF in int8")
    path = calibration.path(work)
    if not path.exists():
        model = calibration.quantized(convert(work, batch=-1), calibration.calibration(work["config"]))
        unfinished = path.with_name(f"{path.stem}.unfinished.xml")
        ov.save_model(model, unfinished, compress_to_fp16=False)
        unfinished.with_suffix(".bin").replace(path.with_suffix(".bin"))
        unfinished.replace(path)
    return ov.Core().read_model(path)
