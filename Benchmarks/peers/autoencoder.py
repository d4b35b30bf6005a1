#!/usr/bin/env python3
"""AutoencoderKL's decoder beside OpenVINO and PyTorch: every engine in turns, medians, errors against PyTorch in Double.

    swift build -c release --package-path Benchmarks
    pip install torch diffusers openvino safetensors
    python Benchmarks/peers/autoencoder.py --ours Benchmarks/.build/release/dit-bench

Without --model it writes an autoencoder of sd-vae's size with random weights, its output scaled to a spread of 0.35.
A round gives each engine `--calls` calls; the first round is not counted.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file


def write_model(folder: Path) -> None:
    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    ).eval()
    with torch.no_grad():
        spread = model.decode(torch.randn(1, 4, 16, 16) / 0.18215).sample.std()
        model.decoder.conv_out.weight.mul_(0.35 / spread)
    model.save_pretrained(folder)


class Ours:
    def __init__(self, program: str, model: Path, latents: Path, precision: str, threads: int):
        command = [program, "autoencoder", "--model", model, "--latents", latents, "--precision", precision]
        command += ["--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str = "") -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def run(self) -> float:
        self.answer = self.ask()
        return self.answer["seconds"]

    def output(self) -> torch.Tensor:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/images.safetensors"
            self.ask(path)
            return load_file(path)["images"]


class Torch:
    def __init__(self, model, latents, precision: str):
        self.model, self.latents, self.precision = model, latents, precision

    def output(self) -> torch.Tensor:
        enabled = self.precision == "bf16"
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            return self.model.decode(self.latents).sample.float()

    def run(self) -> float:
        start = time.perf_counter()
        self.output()
        return time.perf_counter() - start


class OpenVINO:
    def __init__(self, model, latents, precision: str, threads: int):
        import openvino

        class Decoder(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, z):
                return self.model.decode(z, return_dict=False)[0]

        graph = openvino.convert_model(Decoder(), example_input=latents, input=[latents.shape])
        hint = {"bf16": "bf16", "fp32": "f32"}[precision]
        self.compiled = openvino.Core().compile_model(
            graph,
            "CPU",
            {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"},
        )
        self.request = self.compiled.create_infer_request()
        self.latents = latents.numpy()

    def output(self) -> torch.Tensor:
        return torch.from_numpy(self.request.infer([self.latents])[0].copy())

    def run(self) -> float:
        start = time.perf_counter()
        self.request.infer([self.latents])
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="dit-bench")
    parser.add_argument("--model", type=Path, help="a directory with an AutoencoderKL")
    parser.add_argument("--side", type=int, default=32, help="rows and columns of the latent (default: 32, 256²)")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engines", default="ours,openvino,torch")
    parser.add_argument("--precisions", default="fp32,bf16")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or Path(temporary) / "vae"
        if not arguments.model:
            write_model(folder)
        model = AutoencoderKL.from_pretrained(folder).eval()
        channels = model.config.latent_channels
        random = torch.Generator().manual_seed(1)
        latents = torch.randn(1, channels, arguments.side, arguments.side, generator=random)
        file = Path(temporary) / "latents.safetensors"
        save_file({"latents": latents}, file)
        unscaled = latents / model.config.scaling_factor
        with torch.inference_mode():
            exact = model.double().decode(unscaled.double()).sample
        model.float()
        engines = {}
        for precision in arguments.precisions.split(","):
            for engine in arguments.engines.split(","):
                make = {
                    "ours": lambda: Ours(arguments.ours, folder, file, precision, arguments.threads),
                    "openvino": lambda: OpenVINO(model, unscaled, precision, arguments.threads),
                    "torch": lambda: Torch(model, unscaled, precision),
                }
                engines[engine, precision] = make[engine]()
        errors = {}
        for name, engine in engines.items():
            error = (engine.output().double() - exact).abs()
            square = error.pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()
            errors[name] = ((error.max() / exact.abs().max()).item(), square.item())
        times = {name: [] for name in engines}
        for number in range(arguments.rounds + 1):
            order = list(engines) if number % 2 else list(reversed(engines))
            for name in order:
                median = statistics.median(engines[name].run() for _ in range(arguments.calls))
                if number > 0:
                    times[name].append(median)
        pixels = arguments.side * 2 ** (len(model.config.block_out_channels) - 1)
        print(f"decode {pixels} × {pixels}, {arguments.threads} threads; error: largest over largest, r.m.s. over r.m.s.")
        for (engine, precision), values in times.items():
            other = times.get(("openvino", precision))
            ratio = statistics.median(a / b for a, b in zip(values, other)) if other else float("nan")
            worst, square = errors[engine, precision]
            line = f"{engine:9} {precision}  {1000 * statistics.median(values):7.0f} ms"
            line += f"  {ratio:5.2f} × OpenVINO  error {worst:.1e}, {square:.1e}"
            if engine == "ours":
                answer = engines[engine, precision].answer
                line += f"  scratch {answer['scratch_bytes'] / 1e6:.0f} MB, peak {answer['peak_rss_bytes'] / 1e6:.0f} MB"
            print(line)


if __name__ == "__main__":
    main()
