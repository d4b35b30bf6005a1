#!/usr/bin/env bash
# diffusers 0.42.1: a DiT transformer has a time embedder and a class table of its own in every block.
#
# A guess: as in the paper and in the published weights, one embedder serves all blocks, so that DiT-XL/2 has 675 million
# parameters in either form. Seen: each block holds copies of its own, which training may move apart; XL/2 has 749,826,464
# parameters (and the position table, 294,912 numbers, is not among them). A reader that keeps block 0's copies alone is
# right for converted weights and silently wrong for fine-tuned ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 diffusers==0.42.1
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers import DiTTransformer2DModel

print("diffusers", diffusers.__version__)
with torch.device("meta"):  # shapes without memory
    xl2 = DiTTransformer2DModel(
        num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8, num_layers=28, sample_size=32,
        patch_size=2)
parameters = {name: tensor.numel() for name, tensor in xl2.state_dict().items()}
copies = [name for name in parameters if "class_embedder.embedding_table" in name]
print(f"{sum(parameters.values()):,} parameters in {len(parameters)} tensors; {len(copies)} class tables")
assert len(copies) == 28 and sum(parameters.values()) == 749_826_464, "the copies have gone"

# One block's copy alone changes the output: they are used, not only stored.
torch.manual_seed(0)
small = DiTTransformer2DModel(
    num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=8, patch_size=2)
inputs = dict(hidden_states=torch.randn(1, 4, 8, 8), timestep=torch.tensor([500]), class_labels=torch.tensor([3]))
with torch.no_grad():
    small.eval()
    before = small(**inputs).sample
    small.transformer_blocks[1].norm1.emb.class_embedder.embedding_table.weight.add_(1.0)
    change = (small(**inputs).sample - before).abs().max().item()
print(f"block 1's class table moved by 1: the output changes by {change:.3f}")
assert change > 1e-3
PYTHON
