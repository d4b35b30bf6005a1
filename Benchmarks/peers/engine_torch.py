"""PyTorch, eager. fp32 as it is; bf16 is autocast over fp32 weights, for training too (fp32 gradients and moments).

Autocast casts a weight on each use, unless its cache may keep the cast: for a forward it may here, so that what is timed
are products and not casts. In training the weights change, so each step casts them anew, once.
"""

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import families
from network import DiT
from worker import Unsupported

GUIDANCE = 4.0


def describe():
    return {"version": torch.__version__, "detail": {"isa": torch.backends.cpu.get_cpu_capability()}}


def prepare(work, threads):
    torch.set_num_threads(threads)
    if work["precision"] not in ("fp32", "bf16"):
        raise Unsupported(f"precision {work['precision']}")
    makers = {"forward": prepare_forward, "train": prepare_training, "sample": prepare_sampling}
    if work["kind"] not in makers or work.get("mode", "single") != "single" or work.get("recompute"):
        raise Unsupported(f"{work['kind']}, {work.get('mode', 'single')}, recompute {work.get('recompute', False)}")
    return makers[work["kind"]](work)


def load(work):
    """The network with its weights, and what it is called with, in order."""
    if "published" in work["config"]:
        return families.load(work)
    with torch.device("meta"):
        model = DiT(work["config"])
    model.load_state_dict(load_file(work["weights"]), assign=True)
    inputs = load_file(work["inputs"])
    return model, [inputs[name] for name in ("x", "t", "y")]


def autocast(work, cached=False):
    return torch.autocast("cpu", torch.bfloat16, enabled=work["precision"] == "bf16", cache_enabled=cached)


@contextmanager
def inference(work):
    with torch.no_grad(), autocast(work, cached=True):
        yield


class Forward:
    """Holds one autocast region open from the first call on: its cache of cast weights lives as long."""

    def __init__(self, work):
        self.model, self.inputs = load(work)
        self.region = inference(work)
        self.region.__enter__()

    def __call__(self):
        return self.model(*self.inputs).float().numpy()

    def __del__(self):
        self.region.__exit__(None, None, None)


def prepare_forward(work):
    return Forward(work)


def prepare_training(work):
    model, (x, t, y) = load(work)
    target = load_file(work["inputs"])["target"]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        with autocast(work, cached=True):
            output = model(x, t, y)
        loss = F.mse_loss(output[:, : target.shape[1]].float(), target)
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def prepare_sampling(work):
    """DDIM without noise over every (1000 / steps)th time; the second half of the batch has the null class."""
    forward = Forward(work)
    x, _, y = forward.inputs
    null = torch.full_like(y, work["config"]["classes"])
    labels = torch.cat([y, null])
    times = range(0, 1000, 1000 // work["steps"])[: work["steps"]]
    kept = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)  # alpha-bar
    channels = x.shape[1]

    def sample():
        state = x
        for index in reversed(range(len(times))):
            now, then = kept[times[index]].item(), kept[times[index - 1]].item() if index else 1.0
            t = torch.full((2 * len(x),), float(times[index]))
            noise = forward.model(torch.cat([state, state]), t, labels).float()[:, :channels]
            conditional, unconditional = noise.chunk(2)
            noise = unconditional + GUIDANCE * (conditional - unconditional)
            clean = (state - (1 - now) ** 0.5 * noise) / now**0.5
            state = then**0.5 * clean + (1 - then) ** 0.5 * noise
        return state.numpy()

    return sample
