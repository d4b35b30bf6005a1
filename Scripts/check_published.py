#!/usr/bin/env python3
"""The fixtures' networks of other parts (Scripts/fixtures/parts.py) beside the programs that have them.

    pip install -r Scripts/requirements-fixtures.txt einops
    git clone https://github.com/Bili-Sakura/JiT-diffusers        # has model_jit.py of LTH14/JiT unchanged
    git clone -b torch https://github.com/Lyy-iiis/pMF
    git clone https://github.com/hustvl/LightningDiT
    python Scripts/check_published.py --jit JiT-diffusers --pmf pMF --lightningdit LightningDiT

Builds each program's own network at a small size, gives it random weights by its own names, and requires the output
and the gradient of every tensor to be those of parts.py, which are in Double, within 5e-6 of their largest value: the
programs compute in Float32, pMF also the number 1 − 1/ω of its guidance scale. Nothing of theirs is changed but what needs a GPU or a compiler
(`.cuda()`, `torch.compile`), and timm's patch embedding and fairscale, in whose place a convolution and nothing stand.

Whole sampling runs by each program's own code, from the noise and with the weights of fixtures/family_samples.py, must be
that module's within 2e-5 (JiT's Denoiser.generate, pMF's pixelMeanFlow.generate).

The published sizes are built too, without memory, and must have the tensors and the number of parameters that the same
configuration of parts.py has.

Checked with JiT-diffusers 9ca2cc2, pMF 990e81a and LightningDiT 2725fed. Exit status 0: all as required.
"""

import argparse
import math
import sys
import types
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn as nn

from fixtures import families, family_samples, parts
from fixtures.common import absolute, generator, normal, relative

LIMIT = 5e-6
SAMPLE_LIMIT = 2e-5


def enter(folder: Path) -> None:
    """Imports come from `folder` from here on, whatever modules another program has."""
    own = ("models", "util", "model_jit", "denoiser", "pmf")
    for name in [name for name in sys.modules if name.split(".")[0] in own]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))


def stand_in(name: str, **members: object) -> None:
    for i in range(1, len(words := name.split(".")) + 1):
        sys.modules.setdefault(".".join(words[:i]), types.ModuleType(".".join(words[:i])))
    for key, value in members.items():
        setattr(sys.modules[name], key, value)


class PatchEmbed(nn.Module):
    """timm's, as far as it is used."""

    def __init__(self, size: int, patch: int, channels: int, width: int, bias: bool) -> None:
        super().__init__()
        self.patch_size, self.num_patches = (patch, patch), (size // patch) ** 2
        self.proj = nn.Conv2d(channels, width, patch, patch, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


def compare(name: str, config: parts.Configuration, network: nn.Module, theirs, call) -> bool:
    """`theirs`: from our parameters to theirs by their names, and a function from their gradients to ours."""
    p, random = parts.parameters(config, 5), generator(6)
    stated, back = theirs(p)
    missing = network.load_state_dict(stated, strict=False)
    kept = [key for key in missing.missing_keys if not key.endswith(("freqs_cos", "freqs_sin", "rope_freqs"))]
    assert not kept and not missing.unexpected_keys, (kept, missing.unexpected_keys)
    network.eval()
    side = config.input_size[0]
    x = normal(random, 3, config.in_channels, side, side)
    t = torch.rand(3, config.numbers, generator=random)
    y = torch.tensor([config.num_classes, 0, 2])
    dy = normal(random, 3, config.out_channels, side, side)
    output = call(network, x, t, y)
    output.backward(dy)
    found = back({key: value.grad for key, value in network.named_parameters() if value.grad is not None})
    leaves = {k: v.double().requires_grad_(k not in config.frozen) for k, v in p.items()}
    exact = parts.forward(leaves, config, x.double(), t[:, 0] if config.numbers == 1 else t, y)
    exact.backward(dy.double())
    expected = {k: v.grad for k, v in leaves.items() if v.grad is not None}
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    errors = {k: relative(found[k].reshape(v.shape), v) for k, v in expected.items()}
    worst = max(errors, key=errors.__getitem__)
    print(
        f"{name:20s}output rel {relative(output, exact):.1e}, {len(errors)} gradients, worst rel {errors[worst]:.1e} "
        f"({worst})"
    )
    return relative(output, exact) <= LIMIT and errors[worst] <= LIMIT


def count(name: str, config: parts.Configuration, network: nn.Module, ignored: tuple[str, ...] = ()) -> bool:
    """Whether a published size has as many tensors, and elements in them, as we give it."""
    stored = {key: value for key, value in network.state_dict().items() if not key.endswith(ignored or ("freqs",))}
    found = (len(stored), sum(value.numel() for value in stored.values()))
    shapes = config.shapes().values()
    expected = (len(shapes), sum(math.prod(shape) for shape in shapes))
    print(f"{name:20s}{found[0]} tensors, {found[1]} parameters" + ("" if found == expected else f", ours {expected}"))
    return found == expected


def sampled(family: str, generate) -> bool:
    """`generate(noise, labels, sampler, steps, noise_scale)`: the program's own run from N(0, 1) `noise`."""
    (noise, labels), expected = family_samples.inputs(), family_samples.samples()
    errors = {}
    for name, sample in expected.items():
        own, sampler, steps, scale = name.split(":")
        if own == family:
            errors[name] = absolute(generate(noise, labels, sampler, int(steps), float(scale)), sample)
    worst = max(errors, key=errors.__getitem__)
    print(f"{family + ' samples':20s}{len(errors)} runs, worst abs {errors[worst]:.1e} ({worst})")
    return errors[worst] <= SAMPLE_LIMIT


def same(p: dict[str, torch.Tensor]):
    return dict(p), lambda gradients: gradients


def jit_loss(denoiser_type, network: nn.Module) -> bool:
    """The program's own loss and its gradients, at the fixture's times, noise and labels."""
    expected = families.losses(families.SEEDS["model"])
    network.load_state_dict(parts.parameters(families.JIT, families.SEEDS["model"]))
    denoiser = denoiser_type.__new__(denoiser_type)
    nn.Module.__init__(denoiser)
    denoiser.net, denoiser.t_eps, denoiser.noise_scale = network, 0.05, 1.0
    denoiser.eval()  # keeps the labels
    denoiser.sample_t = lambda *_, **__: expected["t"]
    draw = torch.randn_like
    torch.randn_like = lambda *_, **__: expected["noise"]
    try:
        value = denoiser(expected["x0"], expected["y"])
    finally:
        torch.randn_like = draw
    value.backward()
    errors = {"loss": relative(value.detach(), expected["loss"].mean())}
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert {f"grad.{name}" for name in gradients} == {name for name in expected if name.startswith("grad.")}
    errors |= {name: relative(gradient, expected[f"grad.{name}"]) for name, gradient in gradients.items()}
    worst = max(errors, key=errors.__getitem__)
    print(f"{'JiT loss':20s}rel {errors['loss']:.1e}, {len(gradients)} gradients, worst rel {errors[worst]:.1e} ({worst})")
    return errors[worst] <= LIMIT


def jit(folder: Path) -> bool:
    enter(folder)
    from model_jit import JiT, JiT_models

    config = replace(parts.CASES["jit"], input_size=(8, 8), depth=3, mlp_hidden=None)
    network = JiT(
        input_size=8, patch_size=2, in_channels=3, hidden_size=24, depth=3, num_heads=2, num_classes=4,
        bottleneck_dim=5, in_context_len=4, in_context_start=1,
    )
    passed = compare("JiT", config, network, same, lambda net, x, t, y: net(x, t[:, 0], y))
    from denoiser import Denoiser

    case = family_samples.CASES["jit"]
    own = JiT(
        input_size=8, patch_size=2, in_channels=3, hidden_size=24, depth=3, num_heads=2, num_classes=4,
        bottleneck_dim=5, in_context_len=4, in_context_start=1, mlp_ratio=(case.hidden + 0.5) * 3 / 2 / 24,
    )
    own.load_state_dict(parts.parameters(case, family_samples.SEED))

    def generate(noise, labels, sampler, steps, noise_scale):
        denoiser = Denoiser.__new__(Denoiser)
        nn.Module.__init__(denoiser)
        denoiser.net, denoiser.img_size, denoiser.num_classes = own.eval(), 8, 4
        denoiser.t_eps, denoiser.noise_scale = 0.05, noise_scale
        denoiser.method, denoiser.steps = sampler, steps
        denoiser.cfg_scale, denoiser.cfg_interval = family_samples.SCALE, family_samples.INTERVAL
        draw = torch.randn
        torch.randn = lambda *_, **__: noise
        try:
            return denoiser.generate(labels)
        finally:
            torch.randn = draw

    passed &= sampled("jit", generate)
    passed &= jit_loss(
        Denoiser,
        JiT(
            input_size=8, patch_size=2, in_channels=3, hidden_size=24, depth=2, num_heads=2, num_classes=4,
            bottleneck_dim=5, in_context_len=4, in_context_start=1,
        ))
    for name, (D, depth, heads, bottleneck, start) in {
        "JiT-B/16": (768, 12, 12, 128, 4), "JiT-B/32": (768, 12, 12, 128, 4), "JiT-L/16": (1024, 24, 16, 128, 8),
        "JiT-L/32": (1024, 24, 16, 128, 8), "JiT-H/16": (1280, 32, 16, 256, 10), "JiT-H/32": (1280, 32, 16, 256, 10),
    }.items():
        P = int(name[-2:])
        published = replace(
            config, input_size=(16 * P, 16 * P), patch_size=P, hidden_size=D, depth=depth, num_heads=heads,
            num_classes=1000, patch_bottleneck=bottleneck, in_context_tokens=32, in_context_start=start,
        )
        with torch.device("meta"):
            passed &= count(name, published, JiT_models[name](input_size=16 * P))
    return passed


def lightningdit(folder: Path) -> bool:
    stand_in("timm.models.vision_transformer", PatchEmbed=PatchEmbed, Mlp=None)
    names = {"ColumnParallelLinear": None, "ParallelEmbedding": None, "RowParallelLinear": None}
    stand_in("fairscale.nn.model_parallel.initialize")
    stand_in("fairscale.nn.model_parallel.layers", **names)
    for name in ("fairscale.nn.model_parallel", "fairscale.nn", "fairscale"):
        parent, _, child = f"{name}.initialize".rpartition(".")
        setattr(sys.modules[parent], child, sys.modules.get(f"{name}.{child}", sys.modules[name]))
    enter(folder)
    from models.lightningdit import LightningDiT, LightningDiT_models

    passed = True
    for uses_norm in (False, True):
        config = replace(parts.CASES["lightningdit"], input_size=(4, 4), mlp_ratio=4, qk_norm=uses_norm)
        network = LightningDiT(
            input_size=4, patch_size=1, in_channels=5, hidden_size=24, depth=2, num_heads=2, num_classes=3,
            use_qknorm=uses_norm, use_swiglu=True, use_rope=True, use_rmsnorm=True,
        )
        name = "LightningDiT" + (", q/k" if uses_norm else "")
        passed &= compare(name, config, network, same, lambda net, x, t, y: net(x, t[:, 0], y))
    published = replace(
        config, input_size=(16, 16), in_channels=32, hidden_size=1152, depth=28, num_heads=16, num_classes=1000,
        qk_norm=False,
    )
    with torch.device("meta"):
        network = LightningDiT_models["LightningDiT-XL/1"](
            input_size=16, in_channels=32, use_swiglu=True, use_rope=True, use_rmsnorm=True
        )
    return passed & count("LightningDiT-XL/1", published, network, ("freqs_cos", "freqs_sin"))


def pmf(folder: Path) -> bool:
    enter(folder)
    from models.pmfDiT import pmfDiT

    D, hidden = 24, 64
    config = replace(
        parts.CASES["pmf"], input_size=(8, 8), hidden_size=D, num_heads=2, depth=3, mlp_hidden=hidden,
        patch_bottleneck=128, token_groups=(3, 2, 1, 1, 2),
    )
    network = pmfDiT(
        input_size=8, patch_size=2, hidden_size=D, depth=3, num_heads=2, num_classes=3, aux_head_depth=1,
        num_class_tokens=3, num_time_tokens=2, num_cfg_tokens=2, num_interval_tokens=1, eval_mode=True,
    )

    def places(name: str) -> list[str]:
        """Their names of one of our tensors, which is cut into as many parts."""
        if name.startswith("blocks."):
            _, i, rest = name.split(".", 2)
            block = f"shared_blocks.{i}" if int(i) < 2 else "u_heads.0"
            cut = {
                "attn.qkv.weight": [f"attn.{part}_proj._flax_linear.weight" for part in "qkv"],
                "attn.proj.weight": ["attn.out_proj._flax_linear.weight"],
                "mlp.w12.weight": [f"mlp.{part}._flax_linear.weight" for part in ("w1", "w3")],
                "mlp.w3.weight": ["mlp.w2._flax_linear.weight"],
            }
            return [f"{block}.{part}" for part in cut.get(rest, [rest])]
        if name == "final_layer.norm_final.weight":
            return ["u_final_layer.norm.weight"]
        for ours, their in ((".mlp.0.", ".mlp.0._flax_linear."), (".mlp.2.", ".mlp.2._flax_linear.")):
            if ours in name:
                return [name.replace(ours, their)]
        name = name.replace("final_layer.linear.", "u_final_layer.linear._flax_linear.")
        return [name.replace("embedding_table.", "embedding_table._flax_embedding.")]

    def theirs(p: dict[str, torch.Tensor]):
        stated = {}
        for name, tensor in p.items():
            stated |= dict(zip(places(name), tensor.chunk(len(places(name)))))
        return stated, lambda gradients: {name: torch.cat([gradients[key] for key in places(name)]) for name in p}

    def call(net: nn.Module, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Its u, taken back to the estimate of the image; ω for which the embedded number is t's."""
        time = torch.ones(3)
        u, _ = net(x, time, t[:, 3], 1 / (1 - t[:, 0]), t[:, 1], t[:, 2], y)
        return x - u

    passed = compare("pMF", config, network, theirs, call)
    from pmf import pixelMeanFlow

    case = family_samples.CASES["pmf"]
    own = pmfDiT(
        input_size=8, patch_size=2, hidden_size=case.hidden_size, depth=2, num_heads=1, num_classes=3,
        mlp_ratio=(case.hidden + 0.5) / case.hidden_size, aux_head_depth=0, num_class_tokens=3, num_time_tokens=2,
        num_cfg_tokens=2, num_interval_tokens=1, eval_mode=True,
    )
    own.x_embedder.proj1 = nn.Conv2d(3, case.patch_bottleneck, 2, 2)
    own.x_embedder.proj2 = nn.Conv2d(case.patch_bottleneck, case.hidden_size, 1)
    missing = own.load_state_dict(theirs(parts.parameters(case, family_samples.SEED))[0], strict=False)
    assert missing.missing_keys in ([], ["rope_freqs"]) and not missing.unexpected_keys, missing

    class Given:
        """Draws the noise that it is given."""

        def __init__(self, noise):
            self.noise = noise

        def randn(self, shape):
            assert tuple(shape) == self.noise.shape
            return self.noise

    def generate(noise, labels, sampler, steps, noise_scale):
        flow = pixelMeanFlow.__new__(pixelMeanFlow)
        nn.Module.__init__(flow)
        flow.net, flow.noise_scale, flow.dtype = own.eval(), noise_scale, torch.float32
        flow.img_size, flow.img_channels, flow.num_classes = 8, 3, 3
        return flow.generate(len(noise), Given(noise), steps, family_samples.OMEGA, *family_samples.TOLD, labels=labels)

    passed &= sampled("pmf", generate)
    published = replace(
        config, input_size=(256, 256), patch_size=16, hidden_size=768, num_heads=12, depth=16, mlp_hidden=2048,
        num_classes=1000, token_groups=(8, 4, 2, 2, 4),
    )
    with torch.device("meta"):
        network = pmfDiT(eval_mode=True)
    tensors = len(published.shapes()) + 16 * 3  # q, k, v apart, and w1, w3
    stored = {key: value for key, value in network.state_dict().items() if key != "rope_freqs"}
    assert len(stored) == tensors, (len(stored), tensors)
    found = sum(value.numel() for value in stored.values())
    expected = sum(math.prod(shape) for shape in published.shapes().values())
    print(f"{'pMF-B/16':20s}{found} parameters")
    return passed and found == expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    checks = {"jit": jit, "pmf": pmf, "lightningdit": lightningdit}
    for name in checks:
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help="a clone of the program")
    arguments = vars(parser.parse_args())
    torch.compile = lambda function=None, **_: function
    torch.Tensor.cuda = lambda self, *_, **__: self
    passed = [check(arguments[name].resolve()) for name, check in checks.items() if arguments[name]]
    sys.exit(0 if passed and all(passed) else 1)


if __name__ == "__main__":
    main()
