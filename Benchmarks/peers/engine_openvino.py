"""OpenVINO's CPU device over the PyTorch network, converted with static shapes; the precision is its inference hint."""

import openvino as ov
import torch

import families
from engine_torch import load
from worker import Unsupported

HINTS = {"fp32": "f32", "bf16": "bf16"}


def describe():
    core = ov.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"version": ov.get_version().split("-")[0], "detail": {"capabilities": " ".join(capabilities)}}


def prepare(work, threads):
    if (work["kind"], work.get("mode", "single")) != ("forward", "single") or work["precision"] not in HINTS:
        raise Unsupported(f"{work['kind']} {work['precision']} {work.get('mode', '')}")
    core = ov.Core()
    if work["precision"] == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Unsupported("this CPU has no bf16 products")
    compiled = core.compile_model(convert(work), "CPU", {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": HINTS[work["precision"]],
    })
    request = compiled.create_infer_request()
    for index, value in enumerate(load(work)[1]):
        request.set_input_tensor(index, ov.Tensor(value.numpy().copy()))
    output = request.get_output_tensor(0).data

    def forward():
        request.infer()
        return output

    return forward


def convert(work):
    model, inputs = load(work)
    if work["config"].get("published", "").startswith("pMF"):
        families.rotate_in_reals(model.network)
    arguments = tuple(inputs)
    with torch.no_grad():
        return ov.convert_model(model.eval(), example_input=arguments, input=[list(a.shape) for a in arguments])
