#!/usr/bin/env bash
# torch-fidelity 0.4.0: asked for FID and for precision and recall in one call, it measures them in two spaces. The distance is of the
# Inception network's features; precision and recall are of VGG-16's, as the printed feature extractors say, while ADM's evaluator and the
# papers that quote it take Inception's for both. One path for a user's own weights serves both networks: a file of Inception's, which is
# enough for the distance alone, is refused by its tensors' names as soon as precision and recall are asked for too.
# Seen: with fid=True the call ends with a distance; with prc=True it raises, and names VGG's tensor features.0.weight as missing.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --extra-index-url https://download.pytorch.org/whl/cpu \
  torch==2.13.0+cpu numpy==2.4.6 pillow==13.0.0 scipy==1.17.1 tqdm==4.67.1 requests
"$folder/env/bin/pip" install -q --no-deps torch_fidelity==0.4.0 torchvision==0.28.0
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys, pathlib, numpy, torch
# PyPI's torchvision is built beside another torch: only its Python is used here, so its own operators need a name and no more.
operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

folder = pathlib.Path(sys.argv[1])
random = numpy.random.default_rng(0)
for part in ("a", "b"):
    (folder / part).mkdir()
    for number in range(8):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=numpy.uint8)).save(folder / part / f"{number}.png")
# Random weights of Inception's names and shapes.
state = {}
keep = torch.nn.Module.load_state_dict
torch.nn.Module.load_state_dict = lambda self, *_, **__: state.update(self.state_dict()) or None
load, torch.load = torch.load, lambda *_, **__: {}
FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path="unused")
torch.nn.Module.load_state_dict, torch.load = keep, load
torch.save({name: torch.rand_like(t.float()) * 0.05 + 0.01 for name, t in state.items()}, folder / "inception.pth")
settings = dict(
    input1=str(folder / "a"), input2=str(folder / "b"), cuda=False, verbose=False, cache=False,
    feature_extractor_weights_path=str(folder / "inception.pth"), batch_size=8,
)
found = torch_fidelity.calculate_metrics(fid=True, **settings)
print("fid=True alone:", list(found))
assert list(found) == ["frechet_inception_distance"]
try:
    torch_fidelity.calculate_metrics(fid=True, prc=True, prc_neighborhood=2, **settings)
    raise SystemExit("precision and recall no longer need other weights")
except RuntimeError as error:
    print("prc=True beside it:", str(error).split("\n")[0], "... features.0.weight" if "features.0.weight" in str(error) else "")
    assert "VGG" in str(error) and "features.0.weight" in str(error)
PYTHON
echo "as described"
