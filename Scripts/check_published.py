#!/usr/bin/env python3
"""The fixtures' networks of other parts (Scripts/fixtures/parts.py) beside the programs that have them.

    pip install -r Scripts/requirements-fixtures.txt einops timm==1.0.31
    git clone https://github.com/Bili-Sakura/JiT-diffusers        # has model_jit.py of LTH14/JiT unchanged
    git clone -b torch https://github.com/Lyy-iiis/pMF
    git clone https://github.com/hustvl/LightningDiT
    git clone https://github.com/willisma/SiT
    git clone https://github.com/sihyun-yu/REPA
    python Scripts/check_published.py --jit JiT-diffusers --pmf pMF --lightningdit LightningDiT --sit SiT --repa REPA

Builds each program's own network at a small size, gives it random weights by its own names, and requires the output
and the gradient of every tensor to be those of parts.py, which are in Double, within 5e-6 of their largest value: the
programs compute in Float32, pMF also the number 1 − 1/ω of its guidance scale. Nothing of theirs is changed but what needs a GPU or a compiler
(`.cuda()`, `torch.compile`), and for LightningDiT timm's patch embedding and fairscale, in whose place a convolution and
nothing stand.

Whole sampling runs by each program's own code, from the noise and with the weights of fixtures/family_samples.py, must be
that module's within 2e-5 (JiT's Denoiser.generate, pMF's pixelMeanFlow.generate), and those of fixtures/transport.py: SiT's
and LightningDiT's transport with torchdiffeq, REPA's samplers; LightningDiT's and SiT's losses and gradients too.

The published sizes are built too, without memory, and must have the tensors and the number of parameters that the same
configuration of parts.py has.

Checked with JiT-diffusers 9ca2cc2, pMF 990e81a, LightningDiT 2725fed, SiT 947f95b and REPA 67f7145. Exit status 0: all as required.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import math
import sys
import types
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn as nn

from fixtures import families, family_samples, parts, transport
from fixtures.common import absolute, generator, normal, relative

LIMIT = 5e-6
SAMPLE_LIMIT = 2e-5


def worst_of(errors):
    """The name of the largest error; `max` alone would pass over one that is no number."""
    assert all(map(math.isfinite, errors.values())), errors
    return max(errors, key=errors.__getitem__)


def enter(folder: Path) -> None:
    """Imports come from `folder` from here on, whatever modules another program has."""
    own = ("models", "util", "model_jit", "denoiser", "pmf", "transport", "samplers")
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
    worst = worst_of(errors)
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
    worst = worst_of(errors)
    print(f"{family + ' samples':20s}{len(errors)} runs, worst abs {errors[worst]:.1e} ({worst})")
    return errors[worst] <= SAMPLE_LIMIT


def same(p: dict[str, torch.Tensor]):
    return dict(p), lambda gradients: gradients


def differentiated(name: str, value: torch.Tensor, network: nn.Module, expected: dict[str, torch.Tensor]) -> bool:
    """Whether a loss and its gradients are the fixture's."""
    network.zero_grad()
    value.backward()
    errors = {"loss": relative(value.detach(), expected["loss"].mean())}
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert {f"grad.{name}" for name in gradients} == {name for name in expected if name.startswith("grad.")}
    errors |= {name: relative(gradient, expected[f"grad.{name}"]) for name, gradient in gradients.items()}
    worst = worst_of(errors)
    print(f"{name + ' loss':20s}rel {errors['loss']:.1e}, {len(gradients)} gradients, worst rel {errors[worst]:.1e} ({worst})")
    return errors[worst] <= LIMIT


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
    return differentiated("JiT", value, network, expected)


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


def all_channels(network: nn.Module, count: int):
    """SiT's forward_with_cfg as its comment says to guide `count` channels."""

    def call(x: torch.Tensor, t: torch.Tensor, y: torch.Tensor, cfg_scale: float) -> torch.Tensor:
        half = x[: len(x) // 2]
        out = network(torch.cat([half, half]), t, y)
        guided, rest = out[:, :count], out[:, count:]
        conditional, unconditional = guided.chunk(2)
        mixed = unconditional + cfg_scale * (conditional - unconditional)
        return torch.cat([torch.cat([mixed, mixed]), rest], dim=1)

    return call


def drawing(noises: torch.Tensor):
    """Stands in for torch.randn and torch.randn_like: the given noises in their order, once for each half of a batch."""
    order = iter(noises)

    def draw(like, *_, **__) -> torch.Tensor:
        noise = next(order)
        size = like.shape if isinstance(like, torch.Tensor) else like
        return torch.cat([noise] * (size[0] // len(noise)))

    return draw


def ran(family: str, generate) -> bool:
    """`generate(name, noise, labels, noises)`: the program's own run of one of transport's."""
    errors, (noise, labels, noises) = {}, transport.inputs(family)
    expected, draws = transport.samples(), (torch.randn, torch.randn_like)
    for name in [name for name in expected if name.startswith(f"{family}:") and not name.endswith("evaluations")]:
        torch.randn = torch.randn_like = drawing(noises)
        try:
            errors[name] = absolute(generate(name, noise, labels), expected[name])
        finally:
            torch.randn, torch.randn_like = draws
    worst = worst_of(errors)
    print(f"{family + ' samples':20s}{len(errors)} runs, worst abs {errors[worst]:.1e} ({worst})")
    return errors[worst] <= SAMPLE_LIMIT


def transported(family: str, sampler, network: nn.Module):
    """Runs of SiT's or LightningDiT's own `transport`."""

    def generate(name: str, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        network.load_state_dict(transport.parameters(name), strict=False)
        method, steps, scale, channels, interval, shift = transport.RUNS[name]
        z, y = torch.cat([noise, noise]), torch.cat([labels, torch.full_like(labels, network.num_classes)])
        call, arguments = network.forward_with_cfg, {"y": y, "cfg_scale": scale}
        if channels != 3:
            call = all_channels(network, noise.shape[1])
        elif interval:
            arguments |= {"cfg_interval": True, "cfg_interval_start": interval[0]}
        if method == "sde":
            return sampler.sample_sde(num_steps=steps, diffusion_form="sigma")(z, call, **arguments)[-1].chunk(2)[0]
        if method == "dopri5":
            rtol, atol = transport.TOLERANCES[name]
            run = sampler.sample_ode(sampling_method="dopri5", num_steps=steps, atol=atol, rtol=rtol)
            pairs = [z[n :: len(noise)] for n in range(len(noise))]
            return torch.cat([run(z, call, y=y[n :: len(noise)], cfg_scale=scale)[-1][:1] for n, z in enumerate(pairs)])
        shifts = {"timestep_shift": shift} if shift != 1 else {}
        run = sampler.sample_ode(sampling_method={"heun": "heun2"}.get(method, method), num_steps=steps + 1, **shifts)
        return run(z, call, **arguments)[-1].chunk(2)[0]

    return generate


def transport_loss(name: str, process, network: nn.Module) -> bool:
    """The program's own loss and its gradients at the fixture's times, noise and labels."""
    expected = transport.losses(name)
    process.sample = lambda x1, *_, **__: (expected["t"], expected["noise"], x1)
    network.load_state_dict(parts.parameters(transport.CASES[name], transport.SEED), strict=False)
    terms = process.training_losses(network, expected["x0"], {"y": expected["y"]})
    value = terms["loss"].mean() + (terms["cos_loss"].mean() if "cos_loss" in terms else 0)
    return differentiated(name, value, network, expected)


class Unused(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """torchvision, of which timm imports much and SiT and REPA use nothing: every name in it is an empty class, whose
    attributes are their names."""

    class Names(type):
        def __getattr__(cls, name: str) -> str:
            if name.startswith("_"):
                raise AttributeError(name)
            return name

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        is_own = name.split(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_own else None

    def exec_module(self, module: types.ModuleType) -> None:
        module.__version__ = "0"
        module.__getattr__ = lambda name: Unused.Names(name, (), {})


def real_timm() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "timm"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Unused())


def sit(folder: Path) -> bool:
    real_timm()
    enter(folder)
    from models import SiT, SiT_models
    from transport import Sampler, create_transport

    config = transport.SIT
    network = SiT(input_size=8, patch_size=2, in_channels=4, hidden_size=24, depth=2, num_heads=2, num_classes=4)
    plain = replace(config, learn_sigma=False)
    single = SiT(
        input_size=8, patch_size=2, in_channels=4, hidden_size=24, depth=2, num_heads=2, num_classes=4, learn_sigma=False)
    passed = compare("SiT", plain, single, same, lambda net, x, t, y: net(x, t[:, 0], y))
    network.eval().num_classes = 4
    process = create_transport("Linear", "velocity", None, None, None)
    with torch.no_grad():
        passed &= ran("sit", transported("sit", Sampler(process), network))
    passed &= transport_loss("sit", process, network)
    published = replace(config, input_size=(32, 32), hidden_size=1152, depth=28, num_heads=16, num_classes=1000)
    with torch.device("meta"):
        return passed & count("SiT-XL/2", published, SiT_models["SiT-XL/2"](input_size=32))


def repa(folder: Path) -> bool:
    real_timm()
    enter(folder)
    from models.sit import SiT
    from samplers import euler_maruyama_sampler, euler_sampler

    network = SiT(
        input_size=8, patch_size=2, in_channels=4, hidden_size=24, decoder_hidden_size=24, encoder_depth=1, depth=2,
        num_heads=2, num_classes=4, z_dims=[8], projector_dim=8, fused_attn=False, qk_norm=False)
    network.projectors = nn.ModuleList()
    passed = compare("REPA", transport.REPA, network, same, lambda net, x, t, y: net(x, t[:, 0], y)[0])
    network.load_state_dict(parts.parameters(transport.REPA, transport.SEED))
    network.eval()
    labels_of = torch.tensor

    def generate(name: str, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        method, steps, scale, _, (low, high), _ = transport.RUNS[name]
        run = euler_maruyama_sampler if method == "sde" else euler_sampler
        # Its null class is 1000, of a network of 1000 classes.
        torch.tensor = lambda data, *a, **k: labels_of([4] * len(data) if data and data[0] == 1000 else data, *a, **k)
        try:
            return run(network, noise, labels, num_steps=steps, heun=method == "heun", cfg_scale=scale, guidance_low=low,
                       guidance_high=high)  # fmt: skip
        finally:
            torch.tensor = labels_of

    with torch.no_grad():
        return passed & ran("repa", generate)


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
    from transport import Sampler, create_transport

    process = create_transport("Linear", "velocity", None, None, None, use_cosine_loss=True, use_lognorm=True)
    network = LightningDiT(
        input_size=4, patch_size=1, in_channels=5, hidden_size=24, depth=2, num_heads=2, num_classes=4, use_qknorm=False,
        use_swiglu=True, use_rope=True, use_rmsnorm=True,
    )
    network.eval().num_classes = 4
    with torch.no_grad():
        passed &= ran("lightningdit", transported("lightningdit", Sampler(process), network))
    passed &= transport_loss("lightningdit", process, network)
    published = replace(
        config, input_size=(16, 16), in_channels=32, hidden_size=1152, depth=28, num_heads=16, num_classes=1000,
        qk_norm=False,
    )
    with torch.device("meta"):
        network = LightningDiT_models["LightningDiT-XL/1"](
            input_size=16, in_channels=32, use_swiglu=True, use_rope=True, use_rmsnorm=True
        )
    return passed & count("LightningDiT-XL/1", published, network, ("freqs_cos", "freqs_sin")) & vavae(folder)


@torch.no_grad()
def vavae(folder: Path) -> bool:
    """VA-VAE's own autoencoder, at its full size with random weights, beside diffusers' with the names of autoencoder.py."""
    from diffusers import AutoencoderKL
    from fixtures import autoencoder

    sys.meta_path.insert(0, Unused())
    specification = importlib.util.spec_from_file_location("vavae_own", folder / "tokenizer" / "autoencoder.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    own = module.AutoencoderKL(embed_dim=32, ch_mult=(1, 1, 2, 2, 4)).eval()
    blocks, plain = 5, ("{}Block2D",) * 4
    model = AutoencoderKL(
        down_block_types=[name.format("DownEncoder") for name in plain] + ["AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D"] + [name.format("UpDecoder") for name in plain],
        block_out_channels=(128, 128, 256, 256, 512), layers_per_block=2, latent_channels=32,
    ).eval()  # fmt: skip
    state, theirs = model.state_dict(), own.state_dict()
    names = {name: autoencoder.compvis(name, blocks) for name in state}
    assert set(names.values()) == set(theirs), set(names.values()) ^ set(theirs)
    model.load_state_dict({name: theirs[names[name]].reshape(value.shape) for name, value in state.items()})
    random = generator(7)
    latents, images = normal(random, 1, 32, 4, 4), torch.tanh(normal(random, 1, 3, 64, 64))
    errors = {
        "decode": relative(own.decode(latents), model.decode(latents).sample),
        "encode": relative(own.encode(images).mean, model.encode(images).latent_dist.mean),
    }
    print(f"{'VA-VAE':20s}{len(state)} tensors, decode rel {errors['decode']:.1e}, encode rel {errors['encode']:.1e}")
    return errors[worst_of(errors)] <= 1e-5


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
    checks = {"jit": jit, "pmf": pmf, "lightningdit": lightningdit, "sit": sit, "repa": repa}
    for name in checks:
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help="a clone of the program")
    arguments = vars(parser.parse_args())
    torch.compile = lambda function=None, **_: function
    torch.Tensor.cuda = lambda self, *_, **__: self
    passed = [check(arguments[name].resolve()) for name, check in checks.items() if arguments[name]]
    sys.exit(0 if passed and all(passed) else 1)


if __name__ == "__main__":
    main()
