#!/usr/bin/env bash
# openvino 2026.4.1 with torch 2.13.0 (CPU): a rotation by complex numbers converts, unless it is assigned to a part of a tensor.
#
# A guess: ov.convert_model takes view_as_complex, a product and view_as_real, the usual way to write rotary positions, so a
# network that leaves its first tokens (class, time) unturned and turns the rest in place converts as well. Seen: turning all
# tokens converts and gives torch's numbers; the same rotation assigned to a slice of a complex clone is refused with an
# OpConversionFailure that names aten::copy_ and complex types, so that a whole published network with such tokens has no
# OpenVINO form until its rotation is written with real numbers, which converts, with the slice too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 openvino==2026.4.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON' 2>"$folder/warnings" || { cat "$folder/warnings"; exit 1; }
import openvino as ov
import torch

angles = torch.arange(24.0).reshape(6, 4) / 5
turn = torch.polar(torch.ones(6, 4), angles)
x = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(1))


def pairs(x):
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())


class Whole(torch.nn.Module):
    def forward(self, x):
        return torch.view_as_real(pairs(x) * turn).flatten(-2)


class Part(torch.nn.Module):
    def forward(self, x):
        turned = pairs(x).clone()
        turned[:, -6:] = turned[:, -6:] * turn
        return torch.view_as_real(turned).flatten(-2)


class Reals(torch.nn.Module):
    def forward(self, x):
        turned = x.clone()
        a, b = x[:, -6:, 0::2], x[:, -6:, 1::2]
        turned[:, -6:] = torch.stack([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1).flatten(-2)
        return turned


def result(module, x):
    try:
        model = ov.convert_model(module().eval(), example_input=(x,), input=[list(x.shape)])
    except ov.frontend.OpConversionFailure as error:
        return "refused, " + ("for complex types" if "complex" in str(error).lower() else "otherwise")
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    error = abs(compiled(x.numpy())[0] - module()(x).numpy()).max()
    return "converts, as torch" if error < 1e-5 else f"converts, off by {error}"


found = [result(Whole, x[:, -6:]), result(Part, x), result(Reals, x)]
print("openvino", ov.get_version(), "torch", torch.__version__, "whole:", found[0], "| part:", found[1], "| in reals:", found[2])
assert found == ["converts, as torch", "refused, for complex types", "converts, as torch"], found
PYTHON
