#!/usr/bin/env python3
"""Runs every command that the documents print, as printed, and says which do not work.

    Scripts/check_commands.py --dit .build/release/dit              every document
    Scripts/check_commands.py README.md Documentation/Fashion.md    some
    Scripts/check_commands.py --only 'dit train'                    the commands that hold a text
    Scripts/check_commands.py --list                                what would be done with each
    Scripts/check_commands.py --self-test                           shows that broken commands are found

Documents are the Markdown files and tutorials of the repository, the heads of its scripts and examples, and `dit … --help`.
A command stands in a block, fenced as sh or indented, or is inline code. The commands of a document run one after another in
one folder that looks like a checkout; `dit` and Scripts/dit are --dit there, and nothing is built. A command

    ran      with exit status 0, long ones with fewer steps (RULES);
    reader   stopped with status 65 at a file that only the reader has (READERS), and named it;
    parsed   is too long, or for another machine, or has places to fill in (…, FOLDER, $NAME): its programs and scripts are
             there and their parsers know its options;
    problem  is anything else, also a command that no rule takes.

Files that every reader is taken to have, or to have made by an earlier page, are made when a command first names them
(SUPPLIES). Exit status 1 with problems.
"""

import argparse
import ast
import fnmatch
import functools
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README*.md", "CONTRIBUTING.md", "Documentation/*.md", "Sources/*/*.docc/**/*.md", "Sources/*/*.docc/**/*.tutorial",
    "Examples/**/*.md", "Tests/README.md", "Scripts/studies/README.md", "Benchmarks/peers/README.md",
)
HEADS = ("Scripts/*", "Scripts/studies/*.py", "Scripts/fixtures/*.py", "Benchmarks/peers/*.py", "Examples/Sources/*/*.swift")
SECONDS, LONG = 120, 5  # that a command may take, and from which on it is told

# What is done with a command: the first rule that is found in it. Options given here replace the command's own.
RUN, PARSE = "run", "parse"
RULES = (
    (r"^python3? .*cluster_model\.py", RUN, {}),
    (r"^(mpirun|mpiexec|srun|sbatch|scontrol) ", PARSE, {}),
    (r"^(pip|git|swift|for|apt-get|dpkg-deb|sudo|export|docker|cp|mkdir|cd|cat) ", PARSE, {}),
    (r"^DIT_PEERS|^\S*/?(python3?|pip) ", PARSE, {}),
    (r"^dit mpi-info", PARSE, {}),
    (r"^dit train .*--resume", RUN, {"--steps": 8}),
    (r"^dit train .*latents", RUN, {"--steps": 1}),
    (r"^dit train ", RUN, {"--steps": 5}),
    (r"^dit sample .*--count 100", RUN, {"--count": 10, "--steps": 3}),
    (r"^dit sample .*fashion", RUN, {"--steps": 3}),
    (r"^dit( |$)", RUN, {}),
    (r"^(Scripts|Benchmarks|Tests|Fuzz)/", PARSE, {}),
)

# Names of files and models that only a reader has.
READERS = (
    "DiT-XL-2-256*", "facebook-dit", "0400000.pt", "SiT-*", "lightningdit-*", "JiT-*", "pMF-*", "sd-vae", "VIRTUAL_imagenet256*",
    "pt_inception-*", "efficientnet-*", "models/*", "/data/*", "runs/jit",
)

NETWORK = {"input_size": 16, "patch_size": 4, "hidden_size": 48, "depth": 2, "num_heads": 2, "num_classes": 2}
TRAINING = {"steps": 5, "batch": 4, "validation_modulus": 0, "sample_every": 0}
COLOUR = {"model": NETWORK | {"in_channels": 3}, "training": TRAINING}
JIT = {
    "model": NETWORK | {"family": "jit", "patch_bottleneck": 16, "in_context_tokens": 2, "in_context_start": 1},
    "training": TRAINING | {"ema_decays": [0.9999, 0.9996]},
}
LATENT = {"model": NETWORK | {"input_size": 32, "in_channels": 4}, "training": TRAINING}
F32, I64 = ("F32", 4), ("I64", 8)

# What is made before the first command that names it: by a command, as a JSON file, or as a safetensors file of random numbers.
SUPPLIES = {
    "runs/digits": "dit train --data digits --steps 5 --out runs/digits",
    "runs/captions": "dit train --data digits --config Examples/captions.json --steps 5 --out runs/captions",
    "runs/mine": "dit train --data my.safetensors --config my.json --out runs/mine",
    "runs/jit/config.json": "dit train --data my.safetensors --config jit.json --out runs/jit",
    "runs/jit/ema-0.9996.safetensors": "dit train --data my.safetensors --config jit.json --out runs/jit",
    "runs/sit": "dit train --data latents.safetensors --config sit-s.json --steps 1 --out runs/sit",
    "my.json": COLOUR,
    "run.json": COLOUR,
    "jit.json": JIT,
    "sit-s.json": {"model": {"family": "sit"}, "training": TRAINING},
    "latents.json": LATENT,
    "sit.json": {"vae": "sd-vae"},
    "lightning.json": {"vae": "sd-vae"},
    "my.safetensors": {"images": (F32, 8, 3, 16, 16), "labels": (I64, 8)},
    "photos.safetensors": {"images": (F32, 64, 3, 4, 4)},
    "latents.safetensors": {"latents": (F32, 4, 4, 32, 32), "labels": (I64, 4)},
    "noise.safetensors": {"noise": (F32, 2, 1, 8, 8), "labels": (I64, 2)},
    "batch.safetensors": {
        "x": (F32, 2, 3, 16, 16), "x0": (F32, 2, 3, 16, 16), "noise": (F32, 2, 3, 16, 16), "t": (I64, 2), "y": (I64, 2),
    },
    "a.safetensors": "dit sample --classes 0,1 --out a.safetensors",
    "a.npz": "dit sample --classes 0-9 --count 10 --steps 3 --out a.npz",
    "b.npz": "dit sample --classes 0-9 --count 10 --steps 3 --seed 1 --out b.npz",
    "samples.npz": "dit sample --classes 0-9 --count 10 --steps 3 --out samples.npz",
    "seven.png": "dit sample --classes 7 --steps 3 --out seven.png",
    "photo.jpg": "cp Tests/Fixtures/pictures/rgb.jpg photo.jpg",
    "hole.png": "cp Tests/Fixtures/pictures/rgb.jpg hole.png",
    "pictures": "for n in 1 2 3 4; do for c in cat dog; do "
    "mkdir -p pictures/$c; cp Tests/Fixtures/pictures/rgb.jpg pictures/$c/$n.jpg; done; done",
}

# Options of programs that are not this package's.
EXTERNAL = {
    "mpirun": "-np -n --map-by --bind-to --hostfile --host --mca --allow-run-as-root -x -f -ppn -genv",
    "srun": "--mpi --nodes --ntasks --ntasks-per-node --cpus-per-task --cpu-bind --kill-on-bad-exit -n -N",
    "sbatch": "--array", "scontrol": "", "scancel": "--signal --batch --full",
    "git": "-b --depth", "pip": "-r --extra-index-url -q", "apt-get": "-y", "dpkg-deb": "-x", "head": "-1 -n", "cat": "", "cd": "",
    "cp": "-r -a", "docker": "--cpus", "mkdir": "-p", "export": "",
}
EXTERNAL["mpiexec"] = EXTERNAL["mpirun"]
# Scripts that hand their arguments on.
FORWARDS = {"Scripts/bench": "Benchmarks/peers/bench.py", "Scripts/test": "swift test", "Scripts/sanitize": "swift test"}

# A line that begins so is a command, wherever a block has it.
ASSIGNMENTS = r"(?:[A-Z_]+=\S+ )*"
COMMAND = re.compile(
    ASSIGNMENTS
    + r"(?:Scripts/\w|(?:\.build/\S+/)?dit (?=\s?[\w-])|(?:[~.\w/-]*/)?(?:python3?|pip) [-\w~./]|Benchmarks/\S+\.py"
    r"|swift (?:build|test|run|package|format) |(?:mpirun|mpiexec|srun|sbatch|git|apt-get|docker|sudo|export) |for \w+ in )")
PLACE = re.compile(r"…|\$\w|\$\(|\[|(?<![\w./=-])[A-Z][A-Z0-9_]*(?:\.\w+)?(?![\w/.=-])|\b[A-Z]{3,}\b(?=\.\w)|\S\|\S")


@dataclass
class Command:
    document: str
    line: int
    text: str
    is_inline: bool = False

    @property
    def plain(self):
        """The text without variables before it, and with `dit` for every way to call it."""
        text = re.sub(rf"^(?!DIT_PEERS){ASSIGNMENTS}", "", self.text)
        return re.sub(r"^(Scripts/|\.build/release/)dit\b", "dit", text)


# -- finding ------------------------------------------------------------------------------------------------------------------


def uncommented(text, is_head=False):
    """The command without what a reader would not type: a comment, in a script's head also the words behind wide spaces."""
    if is_head:
        text = re.split(r"\s{3,}", text)[0]
    quote = ""
    for index, letter in enumerate(text):
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        if letter == "#" and not quote and (index == 0 or text[index - 1].isspace()):
            text = text[:index]
            break
    return text.strip()


def block_commands(document, lines, is_head=False, indent=4):
    """The commands of blocks in (number, line); what is no block comes back for inline_commands."""
    found, prose, fence, joined = [], [], None, None
    for number, line in lines:
        body = line.strip().removeprefix("$ ")
        if body.startswith("```"):
            fence = None if fence is not None else body.strip("`").strip()
            prose.append((number, ""))
            continue
        is_indented = re.match(rf"\s{{{indent},}}", line)
        if joined:
            joined.text += " " + body
        elif fence is not None or is_indented:
            known = COMMAND.match(body)
            if fence in ("sh", "bash", "shell", "console") and body and not body.startswith("#") or known and fence in (None, ""):
                joined = Command(document, number, body)
        if joined:
            joined.text = uncommented(joined.text, is_head)
            if joined.text.endswith("\\"):
                joined.text = joined.text[:-1].rstrip()
            else:
                found.append(joined)
                joined = None
            prose.append((number, ""))
        else:
            prose.append((number, "" if fence is not None or (is_indented and not is_head) else line))
    return found, prose


def inline_commands(document, lines):
    """Code in a line of text; a paragraph is one text, as code may go over the end of a line."""
    found, text, starts = [], "", []
    for number, line in [*lines, (0, "")]:
        if line.strip() and not line.lstrip().startswith("|"):
            starts.append((len(text), number))
            text += line + "\n"
            continue
        if line.strip():
            text, starts = line, [(0, number)]
        for match in re.finditer(r"(?<!`)`([^`]+)`(?!`)", text):
            code = " ".join(match[1].replace("\\|", "|").split())
            if COMMAND.match(code) and not code.startswith("for ") or re.match(r"(Scripts|Benchmarks/peers)/[\w./-]+$|dit …", code):
                line_number = [n for start, n in starts if start <= match.start()][-1]
                found.append(Command(document, line_number, code, is_inline=True))
        text, starts = "", []
    return found


def head_of(path):
    """The lines of a script's docstring or first comment, numbered, without the comment's sign."""
    text = path.read_text(errors="replace")
    if path.suffix == ".py" or text.startswith("#!/usr/bin/env python3"):
        node = ast.parse(text).body[0]
        if not isinstance(node, ast.Expr) or not isinstance(node.value.value, str):
            return []
        return list(enumerate(node.value.value.split("\n"), node.lineno))
    lines = enumerate(text.split("\n"), 1)
    sign = "//" if path.suffix == ".swift" else "#"
    head = []
    for number, line in lines:
        if not line.startswith(sign):
            break
        head.append((number, line.lstrip("/#!")))
    return head


def commands_of(path, document):
    text = path.read_text()
    is_head = path.suffix not in (".md", ".tutorial")
    lines = head_of(path) if is_head else list(enumerate(text.split("\n"), 1))
    blocks, prose = block_commands(document, lines, is_head, indent=3 if is_head else 4)
    return sorted(blocks + inline_commands(document, prose), key=lambda command: command.line)


def help_commands(tool):
    for name in ("", *tool.subcommands):
        lines = list(enumerate(tool.help(name).split("OPTIONS:")[0].split("\n"), 1))
        yield from block_commands(f"dit {name} --help".replace("  ", " "), lines, indent=2)[0]


def documents(files):
    if files:
        return [Path(file).resolve() for file in files]
    found = {path for pattern in (*DOCUMENTS, *HEADS) for path in ROOT.glob(pattern) if path.is_file()}
    return sorted(path for path in found if path != Path(__file__).resolve() and path.suffix not in (".supp", ".toml", ".txt"))


# -- parsing ------------------------------------------------------------------------------------------------------------------


class Problem(Exception):
    pass


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


class Tool:
    """`dit`, as its help describes it."""

    def __init__(self, path):
        self.path = Path(path).resolve()
        if not os.access(self.path, os.X_OK):
            raise SystemExit(f"error: {path}: no such program; build it, or name one with --dit")
        self.subcommands = re.findall(r"^  ([a-z][a-z-]+) ", self.help("").split("SUBCOMMANDS:")[1], re.M)

    @functools.cache
    def help(self, name):
        return output(str(self.path), *([name] if name else []), "--help")

    @functools.cache
    def options(self, name):
        """Option -> whether a value follows it."""
        text = self.help(name).split("OPTIONS:")[1]
        return {option: bool(value) for option, value in re.findall(r"(?:^  |, )(--?[\w-]+)( <)?", text, re.M)}

    def split(self, words):
        """(subcommand, options, arguments) of the words behind `dit`."""
        if not words or words[0].startswith("-") and words[0] in ("--help", "-h", "--version"):
            return "", {}, []
        name, rest = words[0], iter(words[1:])
        known = {}
        for each in self.subcommands if name == "…" else [name]:
            if each not in self.subcommands:
                raise Problem(f"dit has no command {name!r}")
            known |= self.options(each)
        options, arguments = {}, []
        for word in rest:
            option, is_joined, value = word.partition("=")
            if not word.startswith("-") or re.match(r"-[\d.]", word):
                arguments.append(word)
            elif option not in known:
                raise Problem(f"dit {name} has no option {option}")
            else:
                options[option] = value if is_joined else next(rest, None) if known[option] else True
        return name, options, arguments

    def is_whole(self, words):
        """Whether nothing is missing that the command needs."""
        name, options, arguments = self.split(words)
        if not name or name == "…":
            return False
        usage = re.search(r"USAGE: dit \S+(.*)", self.help(name))[1]
        required = re.sub(r"\[[^]]*\]", "", usage)
        needed = re.findall(r"(--[\w-]+)", required)
        places = len(re.findall(r"(?<!-)<", re.sub(r"--[\w-]+ <[^>]*>", "", required)))
        return all(options.get(option) for option in needed) and None not in options.values() and len(arguments) >= places

    def target(self, words):
        """(subcommand, the file or folder that it writes)"""
        name, options, arguments = self.split(words)
        return name, arguments[-1] if name in ("convert", "encode", "decode") and arguments else options.get("--out")


def simple_commands(text):
    """The words of each command of a line, without variables before it and without where its output goes."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();|&<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    found, words = [], []
    for word in [*lexer, ";"]:
        if set(word) <= set(";|&()"):
            while words and (re.match(r"[A-Za-z_]+=", words[0]) or words[0] in ("do", "then", "sudo")):
                words.pop(0)
            if words and words[0] not in ("for", "done"):
                found.append([each for each in words if each != "[" and each != "]"])
            words = []
        else:
            words.append(word)
    return found


@functools.cache
def options_of(script):
    """The options that a script's parser knows: of Python those it declares, of shell those it spells."""
    path = ROOT / script
    text = path.read_text()
    if path.suffix != ".py" and "python3" not in text.split("\n")[0]:
        if not os.access(path, os.X_OK):
            raise Problem(f"{script} is not executable")
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
        if done.returncode:
            raise Problem(done.stderr.strip())
        known = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
        forward = FORWARDS.get(script, "")
        return known | (swift_options(forward.split()[1]) if forward.startswith("swift") else options_of(forward) if forward else set())
    tree = compile(text, script, "exec", ast.PyCF_ONLY_AST)
    known = {"--help", "-h"}
    if "add_argument" not in text and "sys.argv" in text:  # it has no parser: what it compares its arguments with
        words = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
        known |= {word for word in words if re.fullmatch(r"--?[\w-]+", word)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")).startswith("add_argument"):
            values = node.args if all(isinstance(value, ast.Constant) for value in node.args) else ast.walk(tree)
            strings = {value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)}
            known |= {string for string in strings if string.startswith("-")}
            if any(isinstance(value, ast.JoinedStr) for value in node.args):
                known |= {f"--{string}" for string in strings}
        if isinstance(node, ast.Import):
            for name in node.names:
                if (path.parent / f"{name.name}.py").is_file():
                    known |= options_of((path.parent / f"{name.name}.py").relative_to(ROOT).as_posix())
    return known


@functools.cache
def swift_options(name):
    if not shutil.which("swift"):
        raise Problem("swift is not installed, so its options are not known")
    return set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", output("swift", *name.split(), "--help")))


def check_options(words, known, program):
    for word in words:
        option = word.partition("=")[0].strip("[]")
        if word.strip("[").startswith("-") and not re.match(r"-[\d.]+$", option) and option not in known:
            raise Problem(f"{program} has no option {option}")


def check_swift(words, document):
    name, rest = words[0], words[1:]
    if name in ("format", "package"):
        has_verb = rest and not rest[0].startswith("-")
        name, rest = f"{name} {rest[0] if has_verb else 'format'}", rest[has_verb:]
    known = swift_options(name)
    if name == "run":
        package = ROOT / rest[rest.index("--package-path") + 1] if "--package-path" in rest else ROOT
        values = {"-c", "--package-path", "--scratch-path"}
        place = next((i for i, w in enumerate(rest) if not w.startswith("-") and rest[i - 1] not in values), None)
        if place is None:
            raise Problem("swift run: no product is named")
        is_ours = (package / "Sources" / rest[place]).is_dir()
        text = (ROOT / document).read_text() if (ROOT / document).is_file() else ""
        if not is_ours and not re.search(rf'name: "{rest[place]}"|Sources/{rest[place]}/', text):
            raise Problem(f"swift run: neither {package.name} nor the document has {rest[place]}")
        text = "".join(path.read_text() for path in (package / "Sources" / rest[place]).rglob("*.swift"))
        for option in (word for word in rest[place + 1 :] if word.startswith("--")):
            variable = re.sub(r"-(\w)", lambda match: match[1].upper(), option[2:])
            if not re.search(rf"\bvar {variable}\b", text):
                raise Problem(f"{rest[place]} has no option {option}")
        rest = rest[:place]
    ours = (word for before, word in zip(["", *rest], rest) if not (word.startswith("-X") or before.startswith("-X")))
    check_options(ours, known, f"swift {name}")


def check_script(script, words, document):
    beside = Path(document).parent / script
    path = next((each for each in (Path(script), beside) if (ROOT / each).is_file()), None)
    if path is None and not (ROOT / script).is_dir():
        raise Problem(f"{script}: no such script")
    if not words and (path is None or path.suffix not in ("", ".py")):
        return  # a folder or a list that a text speaks of
    check_options(words, options_of(path.as_posix()), script)


def check_parsed(words, document, tool):
    """Throws what is wrong with a command that is not run."""
    program, rest = words[0], [word.replace("[", "").replace("]", "") for word in words[1:]]
    name = program.rpartition("/")[2]
    if name in ("mpirun", "mpiexec", "srun", "sbatch"):
        inner = next((i for i, word in enumerate(rest) if word.rpartition("/")[2] == "dit"), len(rest))
        check_options(rest[:inner], EXTERNAL[name].split(), name)
        if inner < len(rest):
            check_parsed(rest[inner:], document, tool)
    elif program in ("dit", "Scripts/dit", ".build/release/dit"):
        tool.split([word for word in rest if not word.startswith("$")])
    elif program == "swift":
        check_swift(rest, document)
    elif name in ("python", "python3"):
        if rest[0] == "-m":
            if rest[1] not in ("venv", "pip", "http.server", "py_compile"):
                raise Problem(f"python -m {rest[1]}: no rule")
        else:
            check_script(rest[0], rest[1:], document)
    elif name == "pip":
        check_options(rest, EXTERNAL["pip"].split(), "pip")
        for file in (after for option, after in zip(rest, rest[1:]) if option == "-r"):
            if not (ROOT / file).is_file():
                raise Problem(f"{file}: no such file")
    elif re.match(r"(Scripts|Benchmarks|Tests|Fuzz)/", program):
        check_script(program, [w for w in rest if not (program == "Scripts/fuzz" and w.startswith("-"))], document)
    elif program in EXTERNAL:
        check_options(rest, EXTERNAL[program].split(), program)
    else:
        raise Problem(f"{program}: no rule knows this program")


# -- running ------------------------------------------------------------------------------------------------------------------


def safetensors(tensors):
    """A file of numbers that look random: floats of about [−1, 1], whole ones 0 and 1."""
    import random
    import struct

    random.seed(1)
    header, data = {}, b""
    for name, ((kind, _), *shape) in tensors.items():
        count = math.prod(shape)
        if kind == "F32":
            more = struct.pack(f"<{count}f", *(random.uniform(-1, 1) for _ in range(count)))
        else:
            more = struct.pack(f"<{count}q", *(index % 2 for index in range(count)))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(more)]}
        data += more
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Checkout:
    """A copy of the working tree whose `dit` is the tool that is given, and folders that look like it."""

    def __init__(self, tool, folder):
        self.tool, self.folder, self.copy, self.locks = tool, folder, folder / "checkout", {}
        self.lock = threading.Lock()
        ignored = shutil.ignore_patterns(".build*", ".git", ".studies", "runs", "__pycache__", ".swiftpm")
        shutil.copytree(ROOT, self.copy, ignore=ignored, symlinks=True)
        for path in ("Scripts/dit", ".build/release/dit", "bin/dit"):
            script = self.copy / path
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(tool.path))} "$@"\n')
            script.chmod(0o755)
        self.environment = os.environ | {"PATH": f"{self.copy / 'bin'}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        self.shared = self.place("supplies")

    def place(self, name):
        folder = self.folder / re.sub(r"\W+", "-", name)
        folder.mkdir()
        for path in self.copy.iterdir():
            if path.name != "bin":
                (folder / path.name).symlink_to(path)
        return folder

    def run(self, text, folder):
        process = subprocess.Popen(
            ["bash", "-c", text], cwd=folder, env=self.environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, error = process.communicate(timeout=SECONDS)
            return subprocess.CompletedProcess(text, process.returncode, out, error)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what bash started, too
            process.communicate()
            raise Problem(f"not finished after {SECONDS} s: shorten it in RULES") from None

    def supply(self, name, folder):
        """Makes it, once for all, and copies it into the folder if it is not there."""
        with self.lock:
            lock = self.locks.setdefault(name, threading.Lock())
        source, target = self.shared / name, folder / name
        with lock:
            if not source.exists():
                recipe = SUPPLIES[name]
                source.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(recipe, str):
                    self.supply_all(recipe, self.shared, besides=name)
                    done = self.run(recipe, self.shared)
                    if done.returncode:
                        raise Problem(f"{name} could not be made by {recipe}: {done.stderr.strip()}")
                elif any(isinstance(value, tuple) for value in recipe.values()):
                    source.write_bytes(safetensors(recipe))
                else:
                    source.write_text(json.dumps(recipe))
        if folder != self.shared and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)

    def supply_all(self, text, folder, besides=""):
        """Whatever the text reads of SUPPLIES; what it writes is not made for it."""
        for words in simple_commands(text):
            written = self.tool.target(words[1:])[1] if words[0] == "dit" and "--resume" not in words else None
            for word in words[1:]:
                for name in SUPPLIES:
                    is_named = word.rstrip("/") == name or word.startswith((name + "/", name + ":"))
                    if is_named and name != besides and word != written:
                        self.supply(name, folder)


def trimmed(text, options):
    for option, value in options.items():
        text = re.sub(rf" {option}[ =]\S+", "", text) + f" {option} {value}"
    return text


def clear(command, folder, tool):
    """Removes what a new run or a conversion would refuse to replace: a document may print alternatives."""
    for words in simple_commands(command.plain):
        name, target = tool.target(words[1:]) if words[0] == "dit" else ("", None)
        path = folder / target if target and (name == "convert" or name == "train" and "--resume" not in words) else None
        if path and path.is_dir() and folder in path.parents and not path.is_symlink():
            shutil.rmtree(path)
        elif path and path.is_file():
            path.unlink()


def plan(command, tool):
    """(RUN or PARSE, options to replace)"""
    for pattern, action, options in RULES:
        if re.search(pattern, command.plain):
            break
    else:
        parts = simple_commands(command.text)
        raise Problem(f"{parts[0][0] if parts else command.text}: no rule knows this program")
    if PLACE.search(command.text) or command.is_inline and not (command.plain.startswith("dit") and whole(command, tool)):
        return PARSE, {}
    return action, options


def whole(command, tool):
    return all(words[0] != "dit" or tool.is_whole(words[1:]) for words in simple_commands(command.plain))


def check(command, checkout, folder, tool):
    """(outcome, what there is to say)"""
    try:
        action, options = plan(command, tool)
        if action == PARSE:
            text = command.text if command.text.find(" | ") >= 0 else command.text.replace("|", " ")
            for words in simple_commands(text):
                check_parsed(words, command.document, tool)
            return "parsed", ""
        checkout.supply_all(command.plain, folder)
        clear(command, folder, tool)
        is_one = len(simple_commands(command.text)) == 1
        start = time.monotonic()
        done = checkout.run(trimmed(command.text, options if is_one else {}), folder)
        seconds = time.monotonic() - start
    except (Problem, ValueError) as problem:
        return "problem", str(problem)
    if done.returncode == 0:
        return "ran", f"{seconds:.0f} s" if seconds > LONG else ""
    lines = [line for line in done.stderr.strip().split("\n") if "rror:" in line] or [done.stderr.strip()]
    missing = re.search(r"[Ee]rror: (?:\S+: )*?(\S+): no such file", lines[0])
    if done.returncode == 65 and missing and any(fnmatch.fnmatch(missing[1], pattern) for pattern in READERS):
        if missing[1] in re.split(r"[\s='\"]+", command.text):
            return "reader", missing[1]
    return "problem", f"status {done.returncode}: {lines[0]}"


def check_document(name, commands, checkout, tool):
    folder = checkout.place(name)
    return [(command, *check(command, checkout, folder, tool)) for command in commands]


def found_commands(arguments, tool):
    """Document -> its commands, in order."""
    found = {}
    for path in documents(arguments.files):
        name = path.relative_to(ROOT).as_posix() if ROOT in path.parents else path.name
        found[name] = commands_of(path, name)
    for command in [] if arguments.files else help_commands(tool):
        found.setdefault(command.document, []).append(command)
    kept = {name: [c for c in commands if arguments.only in c.text] for name, commands in found.items()}
    return {name: commands for name, commands in kept.items() if commands}


def report(results):
    for command, outcome, words in results:
        print(f"{outcome:8} {command.document}:{command.line}: {command.text}" + (f"\n         {words}" if words else ""))
    counts = {name: sum(outcome == name for _, outcome, _ in results) for name in ("ran", "reader", "parsed", "problem")}
    print(
        f"{len(results)} commands: {counts['ran']} ran, {counts['reader']} named the reader's file, {counts['parsed']} were only "
        f"parsed, {counts['problem']} problems")
    return 1 if counts["problem"] or not results else 0


def run(found, tool):
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(2) as pool:
        checkout = Checkout(tool, Path(temporary))
        longest = sorted(found, key=lambda name: -len(found[name]))
        done = {name: pool.submit(check_document, name, found[name], checkout, tool) for name in longest}
        return [result for name in found for result in done[name].result()]


SELF_TEST = """\
Not `dit sample --classes 3 --setps 5 --out a.png`, nor `Scripts/studies/abblation.py`, nor `swift build --no-such-option`.

```sh
dit info                                                  # fine
dit schedule --steps 5 | head -1                          # fine
dit sample --model DiT-XL-2-256x256.pt --out a.safetensors   # the reader's
dit train --data digits --confg Examples/captions.json --out runs/a
dit train --data digits --config Examples/captons.json --out runs/b
dit sample --classes 3 --steps many --out c.png
dit smaple --classes 3 --out d.png
frobnicate --all
```

    Scripts/bench --quikc
    Scripts/bench --quick
    mpirun -np 4 dit train --distributed mpi --data /data/pictures --sttart 3 --out runs/c
    .venv/bin/pip install -r Scripts/requirements-jugde.txt
"""
EXPECTED = [
    "problem", "problem", "problem", "ran", "ran", "reader", "problem", "problem", "problem", "problem", "problem", "problem",
    "parsed", "problem", "problem",
]


def self_test(arguments, tool):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broken.md"
        path.write_text(SELF_TEST)
        arguments.files = [path]
        results = run(found_commands(arguments, tool), tool)
    outcomes = [outcome for _, outcome, _ in results]
    for (command, outcome, words), expected in zip(results, EXPECTED):
        print(f"{'ok ' if outcome == expected else 'NOT'} {outcome:8} {command.text}" + (f": {words}" if words else ""))
    print("self test: " + ("passed" if outcomes == EXPECTED else "FAILED"))
    return 0 if outcomes == EXPECTED else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="documents (all of the repository and the help)")
    parser.add_argument("--dit", default=os.environ.get("DIT", ROOT / ".build/release/dit"), help="(.build/release/dit, or $DIT)")
    parser.add_argument("--only", default="", metavar="TEXT", help="commands that hold TEXT")
    parser.add_argument("--list", action="store_true", help="what would be done with each; nothing runs")
    parser.add_argument("--self-test", action="store_true", help="shows that broken commands are found")
    arguments = parser.parse_args()
    tool = Tool(arguments.dit)
    if arguments.self_test:
        return self_test(arguments, tool)
    found = found_commands(arguments, tool)
    if not arguments.list:
        return report(run(found, tool))
    for command in (command for commands in found.values() for command in commands):
        try:
            action, options = plan(command, tool)
        except (Problem, ValueError) as problem:
            action, options = "problem", {"": problem}
        changed = "".join(f" {option} {value}" for option, value in options.items())
        print(f"{action:8} {command.document}:{command.line}: {command.text}" + (f"   →{changed}" if changed else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
