#!/usr/bin/env python3
"""Makes the test oracles in Tests/Fixtures with PyTorch, diffusers and their kin.

    python3 -m venv fixtures-env
    fixtures-env/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu \\
        -r Scripts/requirements-fixtures.txt
    fixtures-env/bin/python Scripts/make_fixtures.py

Every module of Scripts/fixtures writes into its own folder of Tests/Fixtures:

    network      network/: model directories, forward passes, losses, gradients, trajectories, kernels, sizes
    training     network/digits/training.safetensors: AdamW, clipping and EMA for five steps
    step_cache   network/digits/step-cache.safetensors: evaluations forecast from those before (TaylorSeer)
    variants     network/variants/: positions, conditioning variants and token sequences
    parts        network/parts/: blocks of other parts than the published ones
    family_samples  network/parts/samples.safetensors: sampling runs of JiT's and pMF's form by their own conventions
    diffusion    diffusion/: schedules, step grids, samplers
    predictions  diffusion/predictions.safetensors: what networks predict, with every sampler; losses; step rules
    linear       diffusion/linear.safetensors: linear paths as three families write them: losses, gradients, sampling
    schedulers   diffusion/schedulers.safetensors, network/latent/pipeline.safetensors: diffusers' schedulers and pipeline
    scheduler_cases  diffusion/scheduler_cases.*: every scheduler class and key of diffusers, for nine numbers of steps
    image_to_image  diffusion/image_to_image.safetensors: the same begun on the way, from an image
    randomness   random/: what torch's generator draws
    sequence     diffusion/sequence.safetensors: the sequence-consistency loss
    checkpoint   checkpoint/: files to be read, and files to be refused
    torch_files  torch/: what torch.save writes, and what torch reads from it
    wrapped      wrapped/: one network's state dict as every program that trains leaves it behind
    imaging      imaging/: PNGs of every kind, and broken ones
    pictures     pictures/: JPEGs, fitting to a size, luma
    fashion      fashion/: five hundred of Fashion-MNIST's test pictures
    webp         webp/: WebPs of every kind, and broken ones
    fonts        fonts/: a few characters of a font, and lines of text drawn from its outlines without FreeType
    diffusers_directories  diffusers/: pipelines and transformers by save_pretrained, and what diffusers computes
    whole_pipeline  diffusers/whole: a pipeline with its autoencoder in .bin files, and diffusers' samples and pictures of it
    evaluation   evaluation/: Fréchet distances and nearest neighbours by scipy and scikit-learn
    features     features/: what pytorch-fid, torch-fidelity, clean-fid and efficientnet-lite-pytorch say of pictures
    autoencoder  autoencoder/: AutoencoderKL, encode and decode
    families     families/: files of JiT and pMF as their programs write them, and their networks' answers
    transport    families/, network/parts/transport.safetensors: the same for SiT, REPA and LightningDiT, with sampling runs
    golden       golden/: a whole small DiT of diffusers: forward, loss, gradients, ten steps of AdamW

The files are repeatable: a second run with the same versions on the same machine gives the same bytes. Versions and
seeds stand in each safetensors file's metadata. What the script can check it asserts while it runs: the plain torch
network against diffusers', the samplers against diffusers' schedulers, the parameter counts against the published ones.
At the end of each case it prints the error of Float32 against Double, relative meaning max|a−b| / max|b|.
"""

import argparse
import importlib
from pathlib import Path

import torch

MODULES = {
    "network": "network",
    "training": "network",
    "step_cache": "network",
    "variants": "network",
    "parts": "network",
    "family_samples": "network",
    "diffusion": "diffusion",
    "predictions": "diffusion",
    "linear": "diffusion",
    "schedulers": "diffusion",
    "scheduler_cases": "diffusion",
    "image_to_image": "diffusion",
    "randomness": "random",
    "sequence": "diffusion",
    "checkpoint": "checkpoint",
    "torch_files": "torch",
    "wrapped": "wrapped",
    "imaging": "imaging",
    "pictures": "pictures",
    "fashion": "fashion",
    "webp": "webp",
    "fonts": "fonts",
    "evaluation": "evaluation",
    "features": "features",
    "autoencoder": "autoencoder",
    "diffusers_directories": "diffusers",
    "whole_pipeline": "diffusers",
    "families": "families",
    "transport": "families",
    "golden": "golden",
}
FIXTURES = Path(__file__).resolve().parent.parent / "Tests" / "Fixtures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MODULES, metavar="MODULE", help="make only these modules")
    parser.add_argument("--out", type=Path, default=FIXTURES, help="folder to write to (default: Tests/Fixtures)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # so that the order of sums does not depend on the machine
    torch.use_deterministic_algorithms(True)
    for name in arguments.only or MODULES:
        print(f"{name}:")
        module = importlib.import_module(f"fixtures.{name}")
        module.make(arguments.out / MODULES[name])


if __name__ == "__main__":
    main()
