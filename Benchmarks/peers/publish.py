#!/usr/bin/env python3
"""Writes what `Scripts/bench --full` measured into the documents.

    Scripts/bench --full
    python3 Benchmarks/peers/publish.py                                  of runs/bench
    python3 Benchmarks/peers/publish.py runs/bench runs/bench-families   of several runs; a later one's works replace an earlier's
    python3 Benchmarks/peers/publish.py --self-test

Documentation/Benchmarks.md gets every table, Documentation/benchmark.png the chart, README.md and README.zh-CN.md five rows;
in each text what stands between <!-- bench:begin --> and <!-- bench:end --> is replaced. A row that was not measured says
so. Results of different machines, thread counts or versions are refused. The chart needs matplotlib.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import report

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

# Of the READMEs: kind, network, batch, precision of the work, what it is called in each language, and the entries of ours and of the
# peers that stand there.
SAME = {"ours": "ours", "torch": "torch", "openvino": "openvino"}
DEFAULTS = {"ours": "ours, fast", "torch": "torch, default bf16"}
ROWS = (
    ("forward", "S/2", 1, "fp32", {"en": "forward pass, S/2, batch 1, fp32", "zh": "一次前向传播，S/2，批大小 1，fp32"}, SAME),
    ("forward", "XL/2", 1, "bf16", {"en": "forward pass, XL/2, batch 1, bf16", "zh": "一次前向传播，XL/2，批大小 1，bf16"}, SAME),
    ("train", "S/2", 8, "bf16", {"en": "training step, S/2, batch 8, bf16", "zh": "一个训练步，S/2，批大小 8，bf16"}, SAME),
    ("sample", "S/2", 1, "bf16", {"en": "a sample in 50 guided steps, S/2, bf16", "zh": "生成一个样本（50 步，带引导），S/2，bf16"}, SAME),
    ("picture", "XL/2", 1, "bf16", {
        "en": "a class to a picture of 256×256, XL/2, whole process: `--fast` beside diffusers' 50 DDIM steps in bf16",
        "zh": "按类别生成一张 256×256 图片，XL/2，含启动的总用时：本项目 `--fast`，对比 diffusers 50 步 DDIM（bf16）",
    }, DEFAULTS),
)
PEERS = ("torch", "openvino")
WORDS = {
    "en": {
        "head": ["what", "ours", "PyTorch", "OpenVINO", "our time over theirs (below 1: ours is faster)"], "missing": "not measured", "s": "s",
        "measured": "Measured on {machine}, {date}: {versions}. Ratios are medians of rounds in which all took turns, not quotients of the columns. The last row's sides take other steps and precisions, on random weights.",
        "machine": "{cpu} ({isa}), {cpus} CPUs, {threads} threads", "undated": "on a day that was not recorded", "join": ", ",
    },
    "zh": {
        "head": ["项目", "本项目", "PyTorch", "OpenVINO", "用时之比（本项目 ÷ 对方，小于 1 表示本项目更快）"], "missing": "未测", "s": "s",
        "measured": "测试环境：{machine}；测于 {date}；{versions}。各框架轮流运行若干轮，比值取每轮用时之比的中位数，因此与两列直接相除略有出入；“–”表示未测。最后一行双方的步数和精度不同，且都使用随机权重，只比较速度。",
        "machine": "{cpu}（{isa}），{cpus} 个 CPU，{threads} 个线程", "undated": "日期未记录", "join": "，",
    },
}
READMES = {"README.md": "en", "README.zh-CN.md": "zh"}
HEAD = f"""\
# Benchmarks

This package beside its peers on one machine: `Scripts/bench --full` measures, `Benchmarks/peers/publish.py` writes this page. How it is
measured stands in [Benchmarks/peers/README.md](../Benchmarks/peers/README.md).

![Time of PyTorch, OpenVINO, ONNX Runtime and JAX over ours: above 1 ours is faster](benchmark.png)

{BEGIN}
{END}
"""
LEGEND = (
    "Times are medians; GFLOP/s count every product. In brackets: our time over the peer's, the median of rounds in which all took\n"
    "turns, for forwards first for the same work (one call, conditioning included), then for the steady state of sampling\n"
    "(conditioning computed once for many steps); for training steps our images/s over the peer's."
)


def load(folders):
    """One set of results from several; what is of another machine is refused."""
    merged, identity, works = None, None, {}
    for folder in folders:
        path = folder / "results.json"
        if not path.is_file():
            raise ValueError(f"{path}: no such file; Scripts/bench --full makes it")
        results = json.loads(path.read_text(encoding="utf-8"))
        machine, engines = results["machine"], results["engines"]
        found = {name: machine[name] for name in ("cpu", "cpus", "threads")} | {"isa": isa(results)}
        found |= {f"{name}'s version": engine["version"] for name, engine in engines.items()}
        for name in found.keys() & (identity or {}).keys():
            if found[name] != identity[name]:
                raise ValueError(f"{path}: {name} {found[name]}, of the results before {identity[name]}: not one machine's")
        identity = (identity or {}) | found
        works |= {work["name"]: work | {"date": results.get("date")} for work in results["works"]}
        merged = merged or results
        merged["engines"] |= engines
    return merged | {"works": list(works.values())}


def isa(results):
    return results["engines"].get("ours", {}).get("detail", {}).get("isa", "?")


def dates(works, words):
    days = sorted({work["date"] or words["undated"] for work in works}) or [words["undated"]]
    return days[0] if len(days) == 1 else f"{days[0]} – {days[-1]}"


def versions(results, works, words):
    """Of the peers that took part."""
    labels = {entry["engine"] for work in works for entry in work["entries"] if "median" in entry or "peak_rss_bytes" in entry}
    names = [f"{report.NAMES[name]} {results['engines'][name]['version']}" for name in report.NAMES if name in labels]
    pipelines = {entry["version"] for work in works for entry in work["entries"] if entry.get("version")}
    return words["join"].join([*names, *sorted(text.split(",")[0] for text in pipelines)])


def measured(results, works, words):
    machine = words["machine"].format(**results["machine"] | {"isa": isa(results)})
    return machine, dates(works, words), versions(results, works, words)


def chapters(results):
    """(title, works) of Benchmarks.md."""
    works = results["works"]
    published = [w for w in works if w["kind"] == "forward" and w["network"].startswith(("JiT", "pMF"))]
    yield "DiT", [w for w in works if w not in published and w["precision"] != "int8" and w["kind"] in ("forward", "train", "memory")]
    yield "Whole runs", [w for w in works if w["kind"] in ("sample", "picture")]
    yield "JiT and pMF", [w for w in published if w["precision"] != "int8"]
    yield "8-bit products", [w for w in works if w["precision"] == "int8"]


def benchmarks(results):
    words, parts = WORDS["en"], [LEGEND]
    for title, works in chapters(results):
        parts.append(f"## {title}")
        for make in report.TABLES:
            rows = [work for work in works if make({"works": [work]})]
            if rows:
                parts += ["; ".join(filter(None, measured(results, rows, words))), make({"works": rows})]
        if not works:
            parts.append("Not measured in this run.")
    peaks = report.heading(results).split("\n")[1:]
    parts.append("\n".join(["## The machine", "", *peaks]))
    return "\n\n".join(parts)


def five_rows(results, language):
    words = WORDS[language]
    found = {(w["kind"], w["network"], w["batch"], w["precision"]): w for w in results["works"]}
    rows, shown = [], []
    for *key, names, labels in ROWS:
        work = found.get(tuple(key))
        entries = report.entries(work) if work else {}
        sides = {side: entries[label] for side, label in labels.items() if "median" in entries.get(label, {})}
        if "ours" not in sides:
            rows.append([names[language], words["missing"], "–", "–", "–"])
            continue
        shown.append(work)
        times = [duration(sides[side]["median"], words) if side in sides else "–" for side in ("ours", *PEERS)]
        ratios = [f"{report.NAMES[side]} {ratio(sides['ours'], sides[side], labels):.2f}" for side in PEERS if side in sides]
        rows.append([names[language], *times, words["join"].join(ratios) or "–"])
    machine, date, peers = measured(results, shown, words)
    return words["measured"].format(machine=machine, date=date, versions=peers) + "\n\n" + report.table(words["head"], rows)


def ratio(ours, theirs, labels):
    """Our time over theirs, the median of the rounds; entries keep that of "ours" alone."""
    if labels["ours"] == "ours":
        return theirs["ratio"]
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in zip(ours["rounds"], theirs["rounds"]))


def duration(seconds, words):
    return f"{report.number(1e3 * seconds)} ms" if seconds < 1 else f"{report.number(seconds)} {words['s']}"


def put(path, text, beginning=None):
    """Between the file's marks."""
    old = path.read_text(encoding="utf-8") if path.exists() or beginning is None else beginning
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise ValueError(f"{path}: expected one {BEGIN} and, below it, one {END}")
    path.write_text(old[: old.index(BEGIN) + len(BEGIN)] + f"\n\n{text}\n\n" + old[old.index(END) :], encoding="utf-8")


def publish(results, root):
    """Writes all that can be written; answers what could not."""
    problems = []
    texts = {"Documentation/Benchmarks.md": (benchmarks(results), HEAD)}
    texts |= {name: (five_rows(results, language), None) for name, language in READMES.items()}
    for name, (text, beginning) in texts.items():
        try:
            put(root / name, text, beginning)
        except ValueError as error:
            problems.append(str(error))
        except FileNotFoundError:
            problems.append(f"{root / name}: no such file")
    try:
        import chart
    except ImportError as error:
        problems.append(f"Documentation/benchmark.png: not drawn: {error}")
    else:
        if not chart.draw(results, root / "Documentation/benchmark.png"):
            problems.append("Documentation/benchmark.png: nothing to draw")
    return problems


def self_test():
    def entry(label, seconds, ratio=None, **more):
        return {"label": label, "engine": label.split(",")[0], "median": seconds, **({"ratio": ratio} if ratio else {}), **more}

    def work(kind, network, batch, precision, *entries):
        return {
            "name": f"{kind} {network} batch {batch} {precision}", "kind": kind, "network": network, "batch": batch,
            "precision": precision, "entries": list(entries),
        }

    error = {"error": {"rms": 0.002, "max": 0.003}}
    works = [
        work("forward", "S/2", 1, "fp32", entry("ours", 0.08, gflops=150), entry("ours, steady", 0.07, 0.9), entry("torch", 0.16, 0.5)),
        work("forward", "XL/2", 1, "bf16", entry("ours", 0.67, **error), entry("openvino", 0.7, 0.96, **error)),
        work("forward", "S/2", 1, "int8", entry("ours", 0.025, **error), entry("openvino", 0.026, 0.97, **error)),
        work("train", "S/2", 8, "bf16", entry("ours", 1.0, images_per_second=8), entry("torch", 1.5, 0.66, images_per_second=5)),
        work("sample", "S/2", 1, "bf16", {"label": "ours", "engine": "ours", "refused": "made up"}),
        work("picture", "XL/2", 1, "bf16", *(
            entry(label, seconds, 20 / seconds, name=label, evaluations=30, load=None, peak_rss_bytes=2e9, version=version,
                  rounds=[[seconds], [seconds], [seconds]])
            for label, seconds, version in (
                ("ours", 20.0, None), ("ours, fast", 6.0, None), ("torch, default bf16", 60.0, "diffusers 0.42.1, PyTorch 2.13.0")))),
    ]
    machine = {"cpu": "A Made-Up CPU", "cpus": 4, "threads": 2}
    engines = {"ours": {"version": "1", "detail": {"isa": "avx2"}}}
    engines |= {"torch": {"version": "2.13.0"}, "openvino": {"version": "2026.4.1"}}
    results = {"date": "2026-01-02", "machine": machine, "engines": engines, "works": works}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name, content in (("one", results), ("other", results | {"machine": machine | {"cpu": "Another"}})):
            (root / name).mkdir()
            (root / name / "results.json").write_text(json.dumps(content), encoding="utf-8")
        (root / "Documentation").mkdir()
        for name in READMES:
            (root / name).write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nbehind\n", encoding="utf-8")
        problems = publish(load([root / "one"]), root)
        assert not [problem for problem in problems if "matplotlib" not in problem], problems
        texts = {path.name: path.read_text(encoding="utf-8") for path in (root / "Documentation/Benchmarks.md", *map(root.joinpath, READMES))}
        publish(load([root / "one", root / "one"]), root)
        assert all((root / name).read_text(encoding="utf-8") == texts[name] for name in READMES), "a second time leaves other bytes"
        for name, language in READMES.items():
            text = texts[name]
            rows = [line for line in text.split("\n") if line.startswith("|")][2:]
            assert len(rows) == 5 and text.startswith("before\n") and text.endswith("\nbehind\n") and "old" not in text, text
            assert [WORDS[language]["missing"] in row for row in rows] == [False, False, False, True, False], rows
            assert "60.0 s" in rows[4] and "6.00 s" in rows[4] and "0.10" in rows[4], rows[4]
            for word in ("A Made-Up CPU", "avx2", "2026-01-02", "PyTorch 2.13.0", "OpenVINO 2026.4.1", "0.50"):
                assert word in text, (word, text)
        long = texts["Benchmarks.md"]
        for word in ("## 8-bit products", "forward, int8", "a class to a picture", "diffusers 0.42.1", "Not measured in this run"):
            assert word in long, word
        drawn = (root / "Documentation/benchmark.png").exists()
        assert drawn or problems, "neither a chart nor a word about it"
        for broken, expected in (([root / "one", root / "other"], "not one machine's"), ([root / "none"], "no such file")):
            try:
                load(broken)
            except ValueError as error:
                assert expected in str(error), error
            else:
                raise AssertionError(f"{broken} was taken")
        (root / "README.md").write_text("no marks\n", encoding="utf-8")
        assert any("README.md" in problem for problem in publish(load([root / "one"]), root))
        assert (root / "README.md").read_text(encoding="utf-8") == "no marks\n"
    print("self test: passed" + ("" if drawn else ", without the chart: matplotlib is not installed"))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[ROOT / "runs" / "bench"], metavar="FOLDER", help="(runs/bench)")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="the checkout whose documents are written")
    parser.add_argument("--self-test", action="store_true", help="with made-up results, in a temporary folder")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    try:
        problems = publish(load(arguments.folders), arguments.root)
    except (ValueError, KeyError) as error:
        problems = [str(error)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
