#!/usr/bin/env python3
"""Makes the symbol graph of the umbrella module for DocC; Scripts/docs calls it.

    python3 Scripts/umbrella_symbols.py --modules Sources/DiffusionTransformers/DiffusionTransformers.swift
    python3 Scripts/umbrella_symbols.py GRAPHS Sources/DiffusionTransformers/DiffusionTransformers.swift OUT.symbols.json

The umbrella re-exports types of other modules one by one (`@_exported import struct DiTPipeline.DiT`), and the extractor
leaves such types out. The first form prints the modules that they come from. The second form takes the exported types and
their members from these modules' graphs, MODULE.symbols.json, and what one of the modules declares in an extension of another's
type, such as `Autoencoder(contentsOf:)`, from MODULE@MODULE.symbols.json, made without extension blocks; GRAPHS holds all of
them, and DiffusionTransformers.symbols.json. A name that the source file exports and no graph has is an error.

A link of a comment (two backticks) to a symbol that the umbrella does not export becomes code (one backtick), since there is no
page to go to. A link that no module knows stays an error: DocC meets it on the page of the module itself.
"""

import json
import re
import sys
from pathlib import Path

EXPORT = re.compile(r"^@_exported import (?:struct|class|enum|protocol|func|let|var|typealias) (\w+)\.(\w+)$", re.MULTILINE)
LINK = re.compile(r"``([^`]+)``")


def exports(source):
    """The exported names, each with its module."""
    found = {name: module for module, name in EXPORT.findall(source.read_text(encoding="utf-8"))}
    if not found:
        sys.exit(f"error: {source}: exports nothing")
    return found


def base(component):
    """A path component without its argument labels."""
    return component.split("(")[0]


def collect(folder, source):
    """The umbrella's graph: of its modules' symbols those that it exports, and their members."""
    exported = exports(source)
    graph = json.loads((folder / "DiffusionTransformers.symbols.json").read_text(encoding="utf-8"))
    known, found = set(), set()
    for module in sorted(set(exported.values())):
        for path in [folder / f"{module}.symbols.json", *sorted(folder.glob(f"{module}@*.symbols.json"))]:
            part = json.loads(path.read_text(encoding="utf-8"))
            for symbol in part["symbols"]:
                name, precise = symbol["pathComponents"][0], symbol["identifier"]["precise"]
                if exported.get(name) == (path.name.removesuffix(".symbols.json").split("@")[-1]) and precise not in known:
                    known.add(precise)
                    found.add(name)
                    graph["symbols"].append(symbol)
            graph["relationships"] += [relation for relation in part["relationships"] if relation["source"] in known]
    if missing := sorted(set(exported) - found):
        sys.exit(f"error: {source} exports what no graph has: {', '.join(missing)}")
    unlink(graph["symbols"])
    return graph


def unlink(symbols):
    """Makes code of the links to symbols that are not in the graph."""
    paths = {tuple(map(base, symbol["pathComponents"])) for symbol in symbols}

    def resolves(link, path):
        wanted = tuple(map(base, link.split("#")[0].removeprefix("DiffusionTransformers/").split("/")))
        wanted = tuple(re.sub(r"-[\w.$]+$", "", component) for component in wanted)
        return any(path[:n] + wanted in paths for n in range(len(path) + 1))

    for symbol in symbols:
        path = tuple(map(base, symbol["pathComponents"]))
        for line in symbol.get("docComment", {}).get("lines", []):
            line["text"] = LINK.sub(
                lambda match: match.group(0) if resolves(match.group(1), path) else f"`{match.group(1)}`", line["text"])


def main():
    match sys.argv[1:]:
        case ["--modules", source]:
            print(" ".join(sorted(set(exports(Path(source)).values()))))
        case [folder, source, out]:
            Path(out).write_text(json.dumps(collect(Path(folder), Path(source))), encoding="utf-8")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
