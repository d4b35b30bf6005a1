#!/usr/bin/env python3
"""The flagship's model, data and schedule in PyTorch, the ordinary way, to hold minutes of training against each other.

    python3 -m venv .venv
    .venv/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0 numpy==2.4.6 safetensors==0.8.0
    .venv/bin/python Scripts/peer_fashion.py CONFIG.json OUT [--steps N] [--marks 8] [--seed 0] [--workers 0]
        [--precision bf16] [--threads 2]
    .venv/bin/python Scripts/peer_fashion.py CONFIG.json --check MODEL

CONFIG.json is a training configuration of this project, such as Sources/dit/Resources/fashion-training.json: the network's sizes, batch,
learning rate and its warm-up, cosine, weight decay, betas, clipping and average are read from it. DataLoader, autocast to bfloat16
(--precision fp32: none), fused AdamW, scaled_dot_product_attention, an exponential moving average by foreach operations. At so many marks on the way the
averaged weights are written as a model directory OUT/checkpoints/step-N by this project's names, so that both sides' pictures come from
one sampler. --steps says at which step the learning rate is 0 and the run ends (by default that of CONFIG); OUT/log.jsonl has a line for
every ten steps, with their mean seconds as `dit train` logs them. A run that was stopped goes on from its last mark when it is started
again, with a new order of the pictures. --check compares this network with `dit forward` on a model directory's weights.
"""

import argparse
import gzip
import json
import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

FOLDER = Path("/usr/share/datasets/fashion-mnist")
DIT = os.environ.get("DIT", str(Path(__file__).resolve().parent / "dit"))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.proj(x.transpose(1, 2).reshape(n, tokens, width))


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, g = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(u) * g)


def modulated(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.mlp = SwiGLU(width, 8 * width // 3)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attn(modulated(self.norm1(x), shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulated(self.norm2(x), shift2, scale2))


class Final(nn.Module):
    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.norm_final = nn.RMSNorm(width, eps=1e-6)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulated(self.norm_final(x), shift, scale))


class Time(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(128) / 128)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))


class Labels(nn.Module):
    def __init__(self, classes: int, width: int):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        return self.embedding_table(labels)


class Patches(nn.Module):
    def __init__(self, channels: int, patch: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


def positions(side: int, width: int) -> torch.Tensor:
    """DiT's table: the first half of a row says the column, the second the row."""
    frequencies = 1 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    places = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([places.sin(), places.cos()], dim=1)
    return torch.cat([line.repeat(side, 1), line.repeat_interleave(side, 0)], dim=1).float()[None]


class DiT(nn.Module):
    def __init__(self, model: dict):
        super().__init__()
        size, self.patch, width = model["input_size"], model["patch_size"], model["hidden_size"]
        size = size if isinstance(size, int) else size[0]
        self.side, channels, self.classes = size // self.patch, model["in_channels"], model["num_classes"]
        self.x_embedder = Patches(channels, self.patch, width)
        self.t_embedder, self.y_embedder = Time(width), Labels(self.classes, width)
        self.register_buffer("pos_embed", positions(self.side, width))
        self.blocks = nn.ModuleList([Block(width, model["num_heads"]) for _ in range(model["depth"])])
        self.final_layer = Final(width, self.patch**2 * channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.view(width, -1))
        nn.init.zeros_(self.x_embedder.proj.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for layer in (0, 2):
            nn.init.normal_(self.t_embedder.mlp[layer].weight, std=0.02)
        for module in [*self.blocks, self.final_layer]:
            nn.init.zeros_(module.adaLN_modulation[1].weight)
        nn.init.zeros_(self.final_layer.linear.weight)

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        c = self.t_embedder(t) + self.y_embedder(y)
        x = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            x = block(x, c)
        x = self.final_layer(x, c)
        n, p = len(x), self.patch
        x = x.reshape(n, self.side, self.side, p, p, -1).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(n, -1, self.side * p, self.side * p)


class Clothes(torch.utils.data.Dataset):
    def __init__(self, modulus: int):
        images = gzip.decompress((FOLDER / "train-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((FOLDER / "train-labels-idx1-ubyte.gz").read_bytes())
        kept = [i for i in range(60000) if modulus == 0 or i % modulus != modulus - 1]
        self.images = torch.from_numpy(numpy.frombuffer(images, numpy.uint8, offset=16).reshape(-1, 1, 28, 28)[kept])
        self.labels = torch.from_numpy(numpy.frombuffer(labels, numpy.uint8, offset=8)[kept].astype(numpy.int64))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[index].float() / 127.5 - 1, self.labels[index]


def endless(loader):
    while True:
        yield from loader


def train(arguments: argparse.Namespace, model: dict, training: dict, sampling: dict) -> None:
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    network = DiT(model)
    average = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    parameters = dict(network.named_parameters())
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training["learning_rate"], betas=(0.9, training["beta2"]),
        weight_decay=training["weight_decay"], fused=True,
    )  # fmt: skip
    warmup, last = training["warmup_steps"], arguments.steps or training["steps"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda n: (n + 1) / warmup if n < warmup
        else (1 + math.cos(math.pi * min(1, (n + 1 - warmup) / max(last - warmup, 1)))) / 2,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(
        Clothes(training["validation_modulus"]), training["batch"], shuffle=True, drop_last=True,
        num_workers=arguments.workers, persistent_workers=arguments.workers > 0,
    )  # fmt: skip
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = [network, optimizer, schedule]
    stored = arguments.out / "state.pt"
    step, seconds, total = 0, 0.0, 0.0
    if stored.exists():
        state = torch.load(stored)
        step, average = state["step"], state["average"]
        torch.set_rng_state(state["random"])
        for part, values in zip(kept, state["parts"]):
            part.load_state_dict(values)
    log = open(arguments.out / "log.jsonl", "a" if step else "w")
    batches = endless(loader)
    while step < last:
        start = time.perf_counter()
        x0, y = next(batches)
        s = torch.sigmoid(torch.randn(len(x0)))
        noise = torch.randn_like(x0)
        x = x0 + s[:, None, None, None] * (noise - x0)
        y = torch.where(torch.rand(len(y)) < 0.1, model["num_classes"], y)
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            found = network(x, 1000 * s, y)
        loss = F.mse_loss(found.float(), noise - x0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), training["gradient_clip"])
        optimizer.step()
        schedule.step()
        step += 1
        with torch.no_grad():
            decay = min(training["ema_decay"], (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.values()), list(parameters.values()), 1 - decay)
        total += loss.item()
        seconds += time.perf_counter() - start
        if step % 10 == 0 or step == last:
            count = step % 10 or 10
            log.write(json.dumps({"step": step, "loss": total / count, "seconds": seconds / count}) + "\n")
            log.flush()
            seconds = total = 0.0
        if step * arguments.marks // last > (step - 1) * arguments.marks // last:
            save(arguments.out / "checkpoints" / f"step-{step:08d}", model, sampling, network, average)
            parts = [part.state_dict() for part in kept]
            torch.save({"step": step, "average": average, "random": torch.get_rng_state(), "parts": parts}, stored.with_suffix(".new"))
            stored.with_suffix(".new").replace(stored)


def save(folder: Path, model: dict, sampling: dict, network: DiT, average: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({**average, "pos_embed": network.pos_embed}, folder / "ema.safetensors")
    (folder / "config.json").write_text(json.dumps({**model, "sampling": sampling}, indent=2))


@torch.no_grad()
def check(model: dict, directory: Path) -> None:
    network = DiT(model).eval()
    own = network.pos_embed.clone()
    path = directory / "ema.safetensors"
    network.load_state_dict(load_file(path if path.exists() else directory / "model.safetensors"))
    random = torch.Generator().manual_seed(1)
    x, t, y = torch.randn(3, 1, 28, 28, generator=random), torch.tensor([0.0, 400, 999]), torch.tensor([0, 7, 10])
    expected = network(x, t, y)
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
        save_file({"x": x, "t": t, "y": y}, given)
        subprocess.run([DIT, "forward", "--model", str(directory), "--input", str(given), "--out", str(out)], check=True)
        found = next(iter(load_file(out).values()))
    error = float((found - expected).abs().max() / expected.abs().max())
    table = float((network.pos_embed - own).abs().max())
    print(f"this network and dit forward differ by {error:.1e} of the largest output, tables of positions by {table:.1e}")
    assert error < 1e-5 and table < 1e-6
    with tempfile.TemporaryDirectory() as folder:  # the loss that train() computes, at three levels
        given, out = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
        noise, s = torch.randn(3, 1, 28, 28, generator=random), torch.tensor([0.1, 0.5, 0.9])
        save_file({"x0": x, "noise": noise, "t": 1000 * s, "y": y}, given)
        subprocess.run([DIT, "loss", "--model", str(directory), "--input", str(given), "--out", str(out)], check=True)
        levels = s[:, None, None, None]
        ours = (network(x + levels * (noise - x), 1000 * s, y) - (noise - x)).square().mean(dim=(1, 2, 3))
        error = float((load_file(out)["loss.mse"] - ours).abs().max() / ours.max())
    print(f"losses differ by {error:.1e}")
    assert error < 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--marks", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check", type=Path)
    arguments = parser.parse_args()
    configuration = json.loads(arguments.config.read_text())
    model = configuration["model"]
    if arguments.check:
        check(model, arguments.check)
    elif arguments.out:
        train(arguments, model, configuration["training"], configuration["sampling"])
    else:
        parser.error("OUT, or --check MODEL")


if __name__ == "__main__":
    main()
