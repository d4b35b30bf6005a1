"""Networks of DiT's relatives as their authors run them: their own code from a checkout, on the CPU.

    git clone https://github.com/Bili-Sakura/JiT-diffusers       (holds the authors' model_jit.py unchanged)
    git clone -b torch https://github.com/Lyy-iiis/pMF
    DIT_PEERS_JIT=…/JiT-diffusers DIT_PEERS_PMF=…/pMF Scripts/bench --works JiT pMF

Weights are random, written by that code under its own names; `dit-bench` reads the same file. What asks for a GPU is turned
off: `.cuda()` is left out, and `torch.compile` around single functions, so that PyTorch runs eagerly.
"""

import os
import sys

REPOSITORIES = {"JiT": "DIT_PEERS_JIT", "pMF": "DIT_PEERS_PMF"}
# depth, D, heads, bottleneck, MLP's hidden size, tokens before the image's and the block at which they come, class tokens
# and all, patch, image
SIZES = {
    "JiT-B/16": dict(depth=12, hidden=768, heads=12, bottleneck=128, mlp=2048, prefix=32, start=4, patch=16, image=256),
    "JiT-L/16": dict(depth=24, hidden=1024, heads=16, bottleneck=128, mlp=2730, prefix=32, start=8, patch=16, image=256),
    "JiT-H/16": dict(depth=32, hidden=1280, heads=16, bottleneck=256, mlp=3413, prefix=32, start=10, patch=16, image=256),
    "pMF-B/16": dict(depth=16, hidden=768, heads=12, bottleneck=128, mlp=2048, prefix=20, start=0, patch=16, image=256),
    "pMF-L/16": dict(depth=32, hidden=1024, heads=16, bottleneck=128, mlp=2730, prefix=20, start=0, patch=16, image=256),
}
OMEGA, INTERVAL = 7.5, (0.1, 0.8)


def available():
    """The published networks whose code is here."""
    return [name for name in SIZES if os.environ.get(REPOSITORIES[name.split("-")[0]])]


def network(name, seed=1):
    """The authors' module with random weights, in evaluation mode."""
    import torch

    family = name.split("-")[0]
    torch.manual_seed(seed)
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor
    torch.compile = lambda function=None, **_: function if function else (lambda inner: inner)
    path = os.environ[REPOSITORIES[family]]
    if path not in sys.path:
        sys.path.insert(0, path)
    size = SIZES[name]
    if family == "JiT":
        from model_jit import JiT_models

        model = JiT_models[name](input_size=size["image"])
    else:
        from models.pmfDiT import pmfDiT

        model = pmfDiT(
            input_size=size["image"], patch_size=size["patch"], hidden_size=size["hidden"], depth=size["depth"],
            num_heads=size["heads"], eval_mode=True)
    with torch.no_grad():  # what starts at zero would hide whole layers
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.normal_(std=0.02)
    return model.eval().requires_grad_(False)


def load(work):
    """The network with the work's weights as a function to x̂, and its arguments in order. t of pMF is 1, where u = x − x̂."""
    import torch
    from safetensors.torch import load_file

    name = work["config"]["published"]
    model = network(name)
    state = load_file(work["weights"])
    state = {key.removeprefix("net."): value for key, value in state.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"rope_freqs"}, f"{work['weights']}: {missing}, {unexpected}"
    inputs = load_file(work["inputs"])

    class Images(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model

        def forward(self, *arguments):
            output = self.network(*arguments)
            return arguments[0] - output[0] if isinstance(output, tuple) else output

    return Images(), [inputs[key] for key in ("x", "t", "h", "w", "t_min", "t_max", "y") if key in inputs]


def rotate_in_reals(model):
    """pMF's rotation by real numbers, the same values: OpenVINO's converter takes complex ones, but not where they are
    assigned to a part of a tensor."""
    import torch
    from models import pmfDiT

    def rotated(x, freqs):
        prefix, image = x[:, : -freqs.shape[0]].float(), x[:, -freqs.shape[0] :].float()
        real, imaginary = image.reshape(*image.shape[:-1], -1, 2).unbind(-1)
        cos, sin = freqs[:, None, :, 0], freqs[:, None, :, 1]
        image = torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], -1).flatten(-2)
        return torch.cat([prefix, image], 1).to(x.dtype)

    pmfDiT.apply_rotary_pos_emb = rotated
    freqs = torch.view_as_real(model.rope_freqs).clone()
    del model.rope_freqs
    model.register_buffer("rope_freqs", freqs, persistent=False)


def weights(name):
    """The state dict in the authors' names, as NumPy arrays."""
    state = network(name).state_dict()
    return {f"net.{key}": value.numpy() for key, value in state.items() if not value.is_complex()}


def inputs(name, batch, random):
    """x, t and y, and what pMF's network is told besides."""
    side = SIZES[name]["image"]
    made = {"x": random.standard_normal((batch, 3, side, side)), "t": random.random(batch)}
    if name.startswith("pMF"):
        made |= {"t": made["t"] * 0 + 1, "h": made["t"] * 0 + 1, "w": made["t"] * 0 + OMEGA}
        made |= {"t_min": made["t"] * 0 + INTERVAL[0], "t_max": made["t"] * 0 + INTERVAL[1]}
    made = {key: value.astype("float32") for key, value in made.items()}
    return made | {"y": random.integers(0, 1000, batch)}


def multiply_adds(name, mode):
    """Of every product of one image's forward pass."""
    s = SIZES[name]
    hidden, image = s["hidden"], (s["image"] // s["patch"]) ** 2
    pixels = 3 * s["patch"] ** 2

    def block(tokens):
        return tokens * (4 * hidden**2 + 3 * hidden * s["mlp"]) + 2 * tokens**2 * hidden

    blocks = s["start"] * block(image) + (s["depth"] - s["start"]) * block(image + s["prefix"])
    ends = image * (pixels * s["bottleneck"] + s["bottleneck"] * hidden + hidden * pixels)
    embedders = (256 * hidden + hidden**2) * (4 if name.startswith("pMF") else 1)
    modulation = 0 if name.startswith("pMF") else (6 * s["depth"] + 2) * hidden**2
    return blocks + ends + (embedders + modulation if mode == "single" else 0)
