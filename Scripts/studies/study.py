"""What the studies share: running the tool, resuming, the real data, statistics, tables between markers."""

import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESOURCES = ROOT / "Sources" / "dit" / "Resources"
DOCUMENTATION = ROOT / "Documentation"
DATA = {"digits": RESOURCES / "digits.safetensors", "emoji": RESOURCES / "emoji.safetensors"}


class Failed(Exception):
    """A command that did not do what it should, or a figure that is not there yet."""


def note(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


# Files


def write_text(path, text):
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(path, value):
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path, default=None):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def between_markers(path, name, text):
    """Puts `text` between `<!-- name:begin -->` and `<!-- name:end -->` of a file that has both."""
    old = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise Failed(f"{path}: expected one {begin} before one {end}")
    head, tail = old[: old.index(begin) + len(begin)], old[old.index(end) :]
    write_text(path, f"{head}\n\n{text.strip()}\n\n{tail}")


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


# The tool


def find_dit(given):
    """The built `dit`, as a list of arguments to start a command with."""
    candidates = [given] if given else [str(ROOT / ".build" / "release" / "dit"), shutil.which("dit")]
    for candidate in candidates:
        if candidate and shutil.which(candidate):
            return str(Path(shutil.which(candidate)).resolve())
    raise Failed(f"no dit at {' or '.join(c for c in candidates if c)}: swift build -c release")


def command(arguments):
    """What the command printed; Failed with its first line of error otherwise."""
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, cwd=ROOT)
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no message"])[0]
        raise Failed(f"{' '.join(str(a) for a in arguments[:2])} … gave {result.returncode}: {reason}")
    return result.stdout


def side_by_side(jobs, tasks):
    """Runs the tasks, `jobs` at a time; the first failure is raised once those that run have ended."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def train(dit, data, configuration, folder, *, seed=0, threads=1):
    """A model directory, unless it is there already; the seconds it took."""
    done = folder / "done.json"
    if done.exists():
        if read_json(folder / "study.json") != configuration:
            raise Failed(f"{folder} holds a run of other settings: remove it, or give another --work")
        return read_json(done)["seconds"]
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / "study.json", configuration)
    start = time.monotonic()
    command([dit, "train", "--data", DATA[data], "--config", folder / "study.json", "--out", folder, "--seed", seed,
             "--threads", threads])
    seconds = time.monotonic() - start
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    write_json(done, {"seconds": round(seconds, 1)})
    return seconds


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def sample(dit, model, noise, out, *arguments, threads=1):
    """Samples from given noise and labels, unless they are there."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name("part-" + out.name)  # one that is interrupted writes the images that it has
        command([dit, "sample", "--model", model, "--noise", noise, "--threads", threads, *arguments, "--out", part])
        os.replace(part, out)


def evaluate(evaluator, samples, reference, out, *arguments):
    """The JSON of `dit evaluate`, kept in `out`."""
    if not out.exists():
        text = command([*evaluator, "evaluate", "--samples", samples, "--reference", reference, *arguments, "--json"])
        write_json(out, json.loads(text))
    return read_json(out)


def machine(dit):
    info = json.loads(command([dit, "info", "--json"]))
    return {"cpu": info["cpu"], "processors": info["processors"], "isa": info["isa"],
            "system": platform.system(), "python": platform.python_version(), "date": f"{datetime.date.today()}"}


def measured(value):
    """The line that a page says of a study's file: where and when."""
    where = value.get("machine", {})
    machine = f"on {where['cpu']} ({where['isa']}), {where['processors']} processors, " if "cpu" in where else ""
    versions = f", PyTorch {value['torch'].split('+')[0]}" if "torch" in value else ""
    return f"Measured {machine}{where['date']}{versions}."


# Tensors: safetensors, so far as the studies need them

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "U8": "|u1"}


def load_tensors(path):
    data = Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def save_tensors(path, tensors):
    header, offset = {}, 0
    for name, array in tensors.items():
        code = next(code for code, dtype in DTYPES.items() if np.dtype(dtype) == array.dtype)
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in tensors.values()))
    os.replace(part, path)


def real(data):
    """(images (N, C, H, W) in [-1, 1], labels (N)) of a shipped data set; i mod 5 = 4 is its test split."""
    tensors = load_tensors(DATA[data])
    images = tensors["images"]
    scaled = images / 127.5 - 1 if images.dtype == np.uint8 else images.astype(np.float64)
    return scaled, tensors["labels"].astype(np.int64)


def is_test(count):
    return np.arange(count) % 5 == 4


def make_noise(path, data, seed, every=1):
    """Start noise and labels: those of every `every`-th real image, so that classes have the data's shares."""
    if not path.exists():
        images, labels = real(data)
        labels = labels[::every]
        noise = np.random.default_rng(seed).standard_normal((len(labels), *images.shape[1:]), dtype=np.float32)
        save_tensors(path, {"noise": noise, "labels": labels})


def mean_and_deviation(values, digits=2):
    values = np.asarray(values, dtype=float)
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def main(run):
    """Ends with one line where something failed."""
    try:
        run()
    except Failed as failure:
        sys.exit(f"error: {failure}")
