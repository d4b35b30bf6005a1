#!/usr/bin/env bash
# diffusers 0.42.1: a model that is trained on from an EMAModel's directory is saved with the average's keys.
#
# A guess: a transformer's config.json with `decay` and `optimization_step`, which EMAModel.save_pretrained writes, belongs to
# a moving average. Seen: from_pretrained keeps keys that it does not know, and save_pretrained writes them again, so that
# weights which were never averaged say how they were. EMAModel.from_pretrained of such a directory goes on counting at the
# old average's step. Whether weights are an average is told by the name that a training script gives their directory
# (`transformer_ema`), not by their keys.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 diffusers==0.42.1
HF_HUB_OFFLINE=1 "$folder/env/bin/python" -W ignore - "$folder" <<'PYTHON'
import json
import pathlib
import sys

import diffusers
import torch
from diffusers import DiTTransformer2DModel
from diffusers.training_utils import EMAModel

diffusers.logging.set_verbosity_error()
print("diffusers", diffusers.__version__)
folder = pathlib.Path(sys.argv[1])
model = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, out_channels=4, num_layers=1, sample_size=4)
average = EMAModel(model.parameters(), model_cls=DiTTransformer2DModel, model_config=model.config)
for _ in range(3):
    average.step(model.parameters())
average.save_pretrained(folder / "transformer_ema")

trained = DiTTransformer2DModel.from_pretrained(folder / "transformer_ema")
with torch.no_grad():  # any training
    for parameter in trained.parameters():
        parameter.add_(1)
trained.save_pretrained(folder / "transformer")

keys = [json.loads((folder / name / "config.json").read_text()) for name in ("transformer_ema", "transformer")]
assert "transformer_ema" in keys[1].pop("_name_or_path")  # where it was read from
print("the average's config.json:", {key: keys[0][key] for key in ("decay", "optimization_step", "power")})
print("the trained weights' config.json is the same:", keys[0] == keys[1])
step = EMAModel.from_pretrained(folder / "transformer", DiTTransformer2DModel).optimization_step
print("an EMAModel of the trained weights begins at step", step)
assert keys[0] == keys[1] and keys[1]["optimization_step"] == 3 and step == 3
PYTHON
