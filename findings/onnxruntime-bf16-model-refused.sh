#!/usr/bin/env bash
# onnxruntime 1.32.0, CPU: a model whose tensors are bfloat16, which ONNX's own checker finds valid in full, is refused while it is
# loaded: there is no bfloat16 kernel for a matrix product, a sum or a softmax on CPUs, though there is one for LayerNormalization, and all
# of them exist in float16. Which CPU it is makes no difference. Exporting a transformer in bf16, the format in which PyTorch and OpenVINO run
# it fastest on CPUs that have the instructions, therefore gives a file that cannot be opened; a comparison has to be in fp32, fp16 or int8.
# Seen: NotImplemented for MatMul, Add and Softmax in bfloat16; LayerNormalization in bfloat16 and everything in float16 runs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/env/bin/python" <<'PYTHON'
import onnx
import onnxruntime
from onnx import TensorProto, helper


def runs(kind, operator):
    inputs = ["x"] if operator == "Softmax" else ["x", "y"]
    values = [helper.make_tensor_value_info(name, kind, [4, 4]) for name in (*inputs, "z")]
    graph = helper.make_graph([helper.make_node(operator, inputs, ["z"])], "one", values[:-1], values[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return False
    return True


operators = ("MatMul", "Add", "Softmax", "LayerNormalization")
seen = {name: [runs(kind, operator) for operator in operators] for name, kind in (
    ("bfloat16", TensorProto.BFLOAT16), ("float16", TensorProto.FLOAT16), ("float32", TensorProto.FLOAT))}
print("onnxruntime", onnxruntime.__version__, "loads", operators, seen)
assert seen == {"bfloat16": [False, False, False, True], "float16": [True] * 4, "float32": [True] * 4}
PYTHON
