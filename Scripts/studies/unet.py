#!/usr/bin/env python3
"""A DDPM U-Net against a DiT: as many parameters, as long trained, the same digits, judged by `dit evaluate`.

    swift build -c release
    python3 -m venv ~/dit-unet
    ~/dit-unet/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu -r Scripts/studies/requirements-unet.txt
    ~/dit-unet/bin/python Scripts/studies/unet.py [--quick]          (about ten minutes on two idle cores)

The U-Net is that of Ho et al. 2020 at the size of 8x8 pixels: two resolutions, two residual blocks each on the way down and
three on the way up (GroupNorm, SiLU, 3x3 convolutions), skip connections, self-attention in the middle, a sine-cosine time
embedding and a class embedding added in every block; epsilon prediction, linear schedule, T = 1000, variance beta_t. PyTorch
trains and samples it with the same number of threads. Width and size of the condition are those
whose parameter count is nearest the DiT's.

The DiT is trained first, by `dit train`; its wall time, start of the process included, is the U-Net's allowance (which does not
count PyTorch's import). Both: batch, AdamW, warm-up, cosine decay, clipping, average of the weights and label dropout alike;
only the learning rate is each network's own: the best of three (RATES) by the epsilon error on held-out digits, seed 0. Then both
are trained from three seeds. Seconds to sample are of whole calls, for the same number of images.

Kept in runs/studies/unet, resumable; results in Documentation/studies/unet.json and the tables of Documentation/UNet.md.
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import study
from study import note

T, CLASSES, NULL, GROUPS = 1000, 10, 10, 4
SETTINGS = {"batch": 64, "warmup": 100, "beta2": 0.99, "decay": 0.05, "clip": 1.0, "dropout": 0.1}
RATES = {"DiT": [0.002, 0.004, 0.008], "U-Net": [0.001, 0.002, 0.004]}
SEEDS = [0, 1, 2]
RUNS = [("ddim", 200), ("ddim", 100), ("ddim", 50)]
LONG_RUN = ("ddpm", 1000)  # of the first seed alone: the U-Net needs minutes for it


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + W c))), 1x1 on the skip where the channels change."""

    def __init__(self, inputs, outputs, condition):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.condition = nn.Linear(condition, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x, c):
        h = self.conv1(F.silu(self.norm1(x))) + self.condition(F.silu(c))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(GROUPS, channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, c, h * w).transpose(2, 3).unbind(1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, c, h, w))


class UNet(nn.Module):
    def __init__(self, width, widening=4, blocks=2):
        super().__init__()
        self.width, self.widening, condition = width, widening, widening * width
        self.time = nn.Sequential(nn.Linear(width, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.label = nn.Embedding(CLASSES + 1, condition)
        self.first = nn.Conv2d(1, width, 3, padding=1)
        wide = 2 * width
        self.down_fine = nn.ModuleList(Residual(width, width, condition) for _ in range(blocks))
        self.shrink = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.down_coarse = nn.ModuleList(Residual(width if i == 0 else wide, wide, condition) for i in range(blocks))
        self.middle = nn.ModuleList([Residual(wide, wide, condition), Residual(wide, wide, condition)])
        self.attention = Attention(wide)
        skips = [wide] * blocks + [width]  # coarse skips, from the last
        self.up_coarse = nn.ModuleList(Residual(wide + s, wide, condition) for s in skips)
        self.grow = nn.Conv2d(wide, wide, 3, padding=1)
        self.up_fine = nn.ModuleList(
            Residual((wide if i == 0 else width) + width, width, condition) for i in range(blocks + 1))
        self.last_norm, self.last = nn.GroupNorm(GROUPS, width), nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x, t, y):
        half = self.width // 2
        angles = t[:, None] * torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
        c = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.label(y)
        h = self.first(x)
        skips = [h]
        for block in self.down_fine:
            h = block(h, c)
            skips.append(h)
        h = self.shrink(h)
        skips.append(h)
        for block in self.down_coarse:
            h = block(h, c)
            skips.append(h)
        h = self.middle[1](self.attention(self.middle[0](h, c)), c)
        for block in self.up_coarse:
            h = block(torch.cat([h, skips.pop()], 1), c)
        h = self.grow(F.interpolate(h, scale_factor=2))
        for block in self.up_fine:
            h = block(torch.cat([h, skips.pop()], 1), c)
        return self.last(F.silu(self.last_norm(h)))


def size(network):
    return sum(p.numel() for p in network.parameters())


def of_size(wanted, seed):
    """The U-Net whose parameter count is nearest; Failed beyond 5 %."""
    shapes = [(width, widening) for width in range(8, 65, 4) for widening in (2, 3, 4)]
    shape = min(shapes, key=lambda shape: abs(size(UNet(*shape)) - wanted))
    torch.manual_seed(seed)
    network = UNet(*shape)
    if abs(size(network) / wanted - 1) > 0.05:
        raise study.Failed(f"no width of the U-Net comes within 5 % of {wanted} parameters: {size(network)} is nearest")
    return network


def schedule():
    beta = np.linspace(1e-4, 0.02, T)
    return beta, np.cumprod(1 - beta)


def train_unet(network, highest, seconds, seed):
    """(averaged network, steps) after `seconds` of training."""
    images, labels = study.real("digits")
    chosen = ~study.is_test(len(labels))
    images, labels = torch.tensor(images[chosen], dtype=torch.float32), torch.tensor(labels[chosen])
    signal = torch.tensor(schedule()[1])
    random = torch.Generator().manual_seed(seed)
    average = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), betas=(0.9, SETTINGS["beta2"]), weight_decay=SETTINGS["decay"])
    start, step, batch = time.monotonic(), 0, SETTINGS["batch"]
    while (elapsed := time.monotonic() - start) < seconds:
        rate = highest * min(1, (step + 1) / SETTINGS["warmup"]) * 0.5 * (1 + math.cos(math.pi * elapsed / seconds))
        for group in optimiser.param_groups:
            group["lr"] = rate
        n = torch.randint(len(images), (batch,), generator=random)
        t = torch.randint(T, (batch,), generator=random)
        noise = torch.randn((batch, *images.shape[1:]), generator=random)
        dropped = torch.rand(batch, generator=random) < SETTINGS["dropout"]
        a = signal[t].float()[:, None, None, None]
        y = torch.where(dropped, NULL, labels[n])
        loss = F.mse_loss(network(a.sqrt() * images[n] + (1 - a).sqrt() * noise, t.float(), y), noise)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), SETTINGS["clip"])
        optimiser.step()
        step += 1
        keep = min(0.9999, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, new in zip(average.parameters(), network.parameters()):
                mean.lerp_(new, 1 - keep)
    return average, step


@torch.no_grad()
def held_out_error(network):
    """Mean (epsilon - prediction)^2 over the test split, a hundred times: the same t and noise for every network."""
    images, labels = study.real("digits")
    chosen = study.is_test(len(labels))
    images, labels = torch.tensor(images[chosen], dtype=torch.float32), torch.tensor(labels[chosen])
    signal, random, errors = torch.tensor(schedule()[1]), torch.Generator().manual_seed(0), []
    for _ in range(100):
        t = torch.randint(T, (len(images),), generator=random)
        noise = torch.randn(images.shape, generator=random)
        a = signal[t].float()[:, None, None, None]
        errors.append(F.mse_loss(network(a.sqrt() * images + (1 - a).sqrt() * noise, t.float(), labels), noise).item())
    return sum(errors) / len(errors)


@torch.no_grad()
def sample_unet(network, noise, labels, sampler, steps, seed):
    """`leading` steps; ddpm with the respaced variance beta_t, no noise at the last; ddim with eta 0."""
    kept = np.arange(steps) * (T // steps)
    signal = schedule()[1][kept]
    before = np.concatenate([[1.0], signal[:-1]])
    random = torch.Generator().manual_seed(seed)
    x = noise.clone()
    for i in reversed(range(steps)):
        t = torch.full((len(x),), float(kept[i]))
        epsilon = torch.cat([network(*part) for part in zip(x.split(256), t.split(256), labels.split(256))])
        clean = (x - math.sqrt(1 - signal[i]) * epsilon) / math.sqrt(signal[i])
        if sampler == "ddim":
            x = math.sqrt(before[i]) * clean + math.sqrt(1 - before[i]) * epsilon
            continue
        beta = 1 - signal[i] / before[i]
        x = (math.sqrt(before[i]) * beta * clean + math.sqrt(1 - beta) * (1 - before[i]) * x) / (1 - signal[i])
        if i > 0:
            x = x + math.sqrt(beta) * torch.randn(x.shape, generator=random)
    return x


class Comparison:
    def __init__(self, arguments):
        self.dit = study.find_dit(arguments.dit)
        self.quick, self.threads = arguments.quick, arguments.threads
        self.work = Path(arguments.work).resolve() / ("quick-unet" if self.quick else "unet")
        self.runs = [("ddim", 5)] if self.quick else RUNS
        self.long_run = ("ddpm", 20) if self.quick else LONG_RUN
        self.seeds = SEEDS[:2] if self.quick else SEEDS
        torch.set_num_threads(self.threads)

    def dit_configuration(self, rate):
        steps = 30 if self.quick else 4000
        return {
            "model": {"model_type": "dit", "input_size": 8, "patch_size": 2, "in_channels": 1, "hidden_size": 64, "depth": 4,
                      "num_heads": 4, "num_classes": CLASSES, "class_dropout_prob": SETTINGS["dropout"]},
            "training": {"steps": steps, "batch": SETTINGS["batch"], "learning_rate": rate,
                         "warmup_steps": SETTINGS["warmup"], "beta2": SETTINGS["beta2"], "weight_decay": SETTINGS["decay"],
                         "gradient_clip": SETTINGS["clip"], "flip": False, "validation_modulus": 5, "checkpoint_every": 0,
                         "validate_every": steps, "sample_every": 0, "log_every": 100},
        }

    # Training

    def train_dit(self, rate, seed):
        """{"folder", "training_seconds", "steps", "error"}."""
        folder, settings = self.work / f"dit-{rate}-seed-{seed}", self.dit_configuration(rate)
        seconds = study.train(self.dit, "digits", settings, folder, seed=seed, threads=self.threads)
        error = [line["validation_mse"] for line in study.log(folder) if "validation_mse" in line][-1]
        return {"folder": folder, "training_seconds": seconds, "steps": settings["training"]["steps"], "error": error}

    def train_unet(self, rate, seed, wanted, seconds):
        """The same, with "network" for the folder."""
        name = f"unet-{rate}-seed-{seed}"
        network, weights, about = of_size(wanted, seed), self.work / f"{name}.pt", self.work / f"{name}.json"
        if not about.exists():
            average, steps = train_unet(network, rate, seconds, seed)
            torch.save(average.state_dict(), weights)
            study.write_json(about, {"training_seconds": seconds, "steps": steps, "error": held_out_error(average)})
        network.load_state_dict(torch.load(weights, weights_only=True))
        return {"network": network.eval(), **study.read_json(about)}

    def best(self, name, train):
        """The rate whose run of the first seed has the smallest held-out error, and every rate's error."""
        errors = {rate: train(rate)["error"] for rate in RATES[name]}
        note(f"{name}: held-out error by learning rate {errors}")
        return min(errors, key=errors.get), errors

    def run(self):
        dit_rate, dit_errors = self.best("DiT", lambda rate: self.train_dit(rate, self.seeds[0]))
        first = self.train_dit(dit_rate, self.seeds[0])
        info = json.loads(study.command([self.dit, "info", first["folder"], "--json"]))
        wanted, seconds = info["model"]["trainable_parameters"], first["training_seconds"]
        unet_rate, unet_errors = self.best("U-Net", lambda rate: self.train_unet(rate, self.seeds[0], wanted, seconds))
        networks = {
            "DiT": {"parameters": wanted, "rate": dit_rate, "errors": dit_errors, "runs": []},
            "U-Net": {"parameters": size(of_size(wanted, 0)), "rate": unet_rate, "errors": unet_errors, "runs": []},
        }
        rows = []
        for seed in self.seeds:
            noise = self.work / f"noise-{seed}.safetensors"
            study.make_noise(noise, "digits", seed, every=2)
            ours = self.train_dit(dit_rate, seed)
            theirs = self.train_unet(unet_rate, seed, wanted, ours["training_seconds"])
            for name, run in (("DiT", ours), ("U-Net", theirs)):
                networks[name]["runs"].append({key: run[key] for key in ("training_seconds", "steps", "error")})
            for sampler, steps in self.runs + ([self.long_run] if seed == self.seeds[0] else []):
                rows.append({"network": "DiT", "seed": seed, **self.judged(f"dit-{seed}", sampler, steps, lambda out: study.sample(
                    self.dit, ours["folder"], noise, out, "--sampler", sampler, "--schedule", "leading", "--steps", steps,
                    "--guidance", "1", "--seed", seed, threads=self.threads))})
                rows.append({"network": "U-Net", "seed": seed, **self.judged(f"unet-{seed}", sampler, steps, lambda out:
                    self.sample_to(out, theirs["network"], noise, sampler, steps, seed))})
        self.report({
            "study": "unet", "quick": self.quick, "seeds": self.seeds, "threads": self.threads,
            "machine": study.machine(self.dit), "torch": torch.__version__, "images": rows[0]["images"],
            "networks": networks, "runs": rows,
        })

    def sample_to(self, out, network, noise, sampler, steps, seed):
        tensors = study.load_tensors(noise)
        x, labels = torch.tensor(tensors["noise"]), torch.tensor(tensors["labels"])
        images = sample_unet(network, x, labels, sampler, steps, seed).clamp(-1, 1).numpy()
        study.save_tensors(out, {"images": images, "labels": tensors["labels"]})

    def judged(self, name, sampler, steps, make):
        out = self.work / f"{name}-{sampler}-{steps}.safetensors"
        seconds = out.with_suffix(".seconds.json")
        if not seconds.exists():
            out.unlink(missing_ok=True)
            start = time.monotonic()
            make(out)
            study.write_json(seconds, round(time.monotonic() - start, 2))
        result = study.evaluate([self.dit], out, study.DATA["digits"], out.with_suffix(".judged.json"), "--measures",
                                "frechet", "--no-per-class", "--bootstrap", 200, "--seed", 0)
        frechet = result["frechet"]
        note(f"{name}, {sampler}, {steps} steps: {frechet['distance']:.3f}")
        return {"sampler": sampler, "steps": steps, "seconds": study.read_json(seconds), "distance": frechet["distance"],
                "low": frechet["bootstrap"]["low"], "high": frechet["bootstrap"]["high"],
                "images": len(study.load_tensors(out)["labels"])}

    def report(self, value):
        documentation = self.work / "Documentation" if self.quick else study.DOCUMENTATION
        study.write_json(documentation / "studies" / "unet.json", value)
        page = documentation / "UNet.md"
        if not page.exists():
            study.write_text(page, "# The U-Net question\n\n<!-- unet:begin -->\n<!-- unet:end -->\n")
        networks = study.table(
            ["network", "parameters", "training seconds", "training steps", "held-out ε error", "learning rate (error of each)"],
            [[name, n["parameters"], *(study.mean_and_deviation([run[key] for run in n["runs"]], digits)
                                       for key, digits in (("training_seconds", 1), ("steps", 0), ("error", 4))),
              f"{n['rate']} (" + ", ".join(f"{rate}: {error:.4f}" for rate, error in n["errors"].items()) + ")"]
             for name, n in value["networks"].items()])
        cells = []
        for sampler, steps in [*self.runs, self.long_run]:
            for name in value["networks"]:
                runs = [r for r in value["runs"] if (r["network"], r["sampler"], r["steps"]) == (name, sampler, steps)]
                cells.append([sampler.upper(), steps, name, study.mean_and_deviation([r["distance"] for r in runs], 3),
                              study.mean_and_deviation([r["seconds"] for r in runs], 1)])
        samples = study.table(
            ["sampler", "steps", "network", "Fréchet distance", f"seconds for {value['images']} images"], cells)
        study.between_markers(page, "unet", f"{len(value['seeds'])} seeds.\n\n{networks}\n\n{samples}")
        note(f"{page} written")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dit", help="the built tool (.build/release/dit, else the one on the path)")
    parser.add_argument("--work", default=study.ROOT / "runs" / "studies", help="where runs are kept (runs/studies)")
    parser.add_argument("--threads", type=int, default=2, help="of both networks (2)")
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    Comparison(parser.parse_args()).run()


if __name__ == "__main__":
    study.main(main)
