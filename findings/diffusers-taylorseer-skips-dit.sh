#!/usr/bin/env bash
# diffusers 0.42.1: TaylorSeer caching, applied to a DiT transformer as it comes, caches nothing and says nothing.
#
# A guess, as the method was published for DiT: applying it forecasts the blocks' attention and feed-forward outputs, so that
# fewer of them are computed. Seen: by default modules are chosen whose whole name fits patterns that end in `attn`, and those
# of a DiT transformer are called attn1 and ff. No module gets a hook, every step computes everything, the outputs are the same
# bits, and there is no warning: a run that is thought to be accelerated takes as long as before. (With patterns of one's own it
# works.) Who compares caches by time or by pictures must look at how often a block was computed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 diffusers==0.42.1
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import DiTTransformer2DModel, TaylorSeerCacheConfig
from diffusers.hooks import apply_taylorseer_cache

print("diffusers", diffusers.__version__)


def network():
    torch.manual_seed(0)
    return DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000,
    ).eval()


STEPS = 10
plain, cached = network(), network()
apply_taylorseer_cache(cached, TaylorSeerCacheConfig(cache_interval=4, disable_cache_before_step=2, max_order=1))
hooked = [name for name, module in cached.named_modules() if hasattr(module, "_diffusers_hook")]
calls = {"attention": 0, "feed-forward": 0}


def count(module, kind):
    def hook(*_):
        calls[kind] += 1

    module.register_forward_hook(hook)


for block in cached.transformer_blocks:
    count(block.attn1.to_q, "attention")
    count(block.ff.net[2], "feed-forward")
x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
same = True
with torch.no_grad():
    for step in range(STEPS):
        inputs = x * (1 + 0.1 * step), torch.full((2,), 990 - 90 * step), torch.tensor([1, 2])
        same &= torch.equal(cached(*inputs).sample, plain(*inputs).sample)
print(f"modules with a hook: {hooked}; computed in {STEPS} steps of 3 blocks: {calls}; outputs the same bits: {same}")
assert hooked == [] and same and calls == {"attention": 3 * STEPS, "feed-forward": 3 * STEPS}
PYTHON
