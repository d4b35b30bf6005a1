"""The results as Markdown tables."""

from functools import partial

NAMES = {
    "torch": "PyTorch", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "jax": "JAX",
}

QUIET = 0.03  # the share of the CPUs that other programs may have while a work is timed


def markdown(results):
    parts = [heading(results), *(make(results) for make in TABLES)]
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(results):
    machine = results["machine"]
    lines = [f"{machine['cpu']}, {machine['cpus']} CPUs; every engine with {machine['threads']} threads, in turns."]
    for name, engine in results["engines"].items():
        detail = ", ".join(f"{key} {value}" for key, value in engine.get("detail", {}).items())
        lines.append(f"- {NAMES.get(name, name)} {engine['version']}" + (f" ({detail})" if detail else ""))
    peaks = [peak for work in results["works"] for peak in work.get("peaks", [])]
    for precision in ("fp32", "bf16"):
        rates = [peak[f"{precision}_gflops"] for peak in peaks if peak.get(f"{precision}_gflops")]
        if rates:
            lines.append(f"- {precision} peak, before and after each work: {min(rates):.0f} to {max(rates):.0f} GFLOP/s")
    shares = [work.get("bystanders", 0) for work in results["works"]]
    if max(shares, default=0) > QUIET:
        loud = sum(share > QUIET for share in shares)
        lines.append(f"- other programs had up to {100 * max(shares):.0f} % of these CPUs, in {loud} of {len(shares)} works")
    return "\n".join(lines)


def forwards(results, precision):
    works = [w for w in results["works"] if w["kind"] == "forward" and w["precision"] == precision]
    peers = peers_of(works)
    head = [f"forward, {precision}", "ours, ms", "GFLOP/s", "of peak", "ours, steady", *titles(peers, "ms (ours, steady / its)")]
    rows = []
    for work in works:
        found = entries(work)
        ours, steady = found.get("ours", {}), found.get("ours, steady", {})
        rows.append([
            short(work), milliseconds(ours), number(ours.get("gflops")), percent(ours), milliseconds(steady),
            *(milliseconds(found.get(peer)) + ratio(found.get(peer), steady) for peer in peers),
        ])
    return table(head, rows)


def trainings(results):
    works = [w for w in results["works"] if w["kind"] == "train"]
    peers = peers_of(works)
    head = ["training step", "ours, images/s", "ms", "GFLOP/s", "of peak", *titles(peers, "images/s (ours/its)")]
    rows = []
    for work in works:
        found = entries(work)
        ours = found.get("ours", {})
        rows.append([
            f"{short(work)}, {work['precision']}", number(ours.get("images_per_second")), milliseconds(ours),
            number(ours.get("gflops")), percent(ours), *(images(found.get(peer)) for peer in peers),
        ])
    return table(head, rows)


def gemms(results):
    works = [w for w in results["works"] if "ours, packed" in entries(w)]
    head = ["fp32 products of ours", "auto, ms", "blas", "packed"]
    labels = ("ours", "ours, blas", "ours, packed")
    return table(head, [[short(w), *(milliseconds(entries(w).get(label)) for label in labels)] for w in works])


def errors(results, precision):
    """Against PyTorch in fp32: root mean square over root mean square, largest difference over largest value."""
    works = [w for w in results["works"] if w["kind"] == "forward" and w["precision"] == precision]
    labels = ["ours", *peers_of(works)]
    head = [f"error of {precision}, rms (max)", *(NAMES.get(label, label) for label in labels)]

    def cell(entry):
        error = (entry or {}).get("error")
        return f"{error['rms']:.2g} ({error['max']:.2g})" if error else "–"

    return table(head, [[short(w), *(cell(entries(w).get(label)) for label in labels)] for w in works])


def samplings(results):
    works = [w for w in results["works"] if w["kind"] == "sample"]
    rows = [[w["name"], *(milliseconds(entries(w).get(label)) for label in ("ours", "torch"))] for w in works]
    return table(["sampling, whole", "ours, ms", "PyTorch"], rows)


def pictures(results):
    works = [w for w in results["works"] if w["kind"] == "picture"]
    head = ["a class to a picture, a process each", "evaluations", "s", "of them loading", "ours, bf16 / its", "largest resident memory"]
    rows = [
        [
            f"{w['network']}: {e['name']}", str(e["evaluations"] or "–"), number(e["median"]),
            number(e["load"]), f"{e['ratio']:.2f}" if e["label"] != "ours" else "", f"{e['peak_rss_bytes'] / 1e9:.2f} GB",
        ]
        for w in works for e in w["entries"] if "median" in e
    ]
    return table(head, rows)


def memory(results):
    works = [w for w in results["works"] if w["kind"] == "memory"]
    rows = [
        [f"{NAMES.get(e['label'], e['label'])}, {w['network']}, batch {w['batch']}", f"{e['peak_rss_bytes'] / 1e9:.2f} GB"]
        for w in works for e in w["entries"] if "peak_rss_bytes" in e
    ]
    return table(["training, a fresh process", "largest resident memory"], rows)


def entries(work):
    return {entry["label"]: entry for entry in work["entries"]}


def peers_of(works):
    found = {entry["label"] for work in works for entry in work["entries"]}
    return [name for name in NAMES if name in found]


def titles(peers, what):
    return [f"{NAMES[peer]}, {what}" for peer in peers]


def short(work):
    return work["network"] if work["network"] == "digits" and work["batch"] == 1 else f"{work['network']}, batch {work['batch']}"


def number(value):
    """Three digits, and none behind the point that say nothing."""
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def milliseconds(entry):
    return number(1e3 * entry["median"]) if entry and "median" in entry else "–"


def percent(entry):
    return f"{100 * entry['share_of_peak']:.0f} %" if "share_of_peak" in entry else "–"


def ratio(entry, steady):
    """Our time over its: for the same work, and for the steady state of sampling."""
    if not entry or "ratio" not in entry:
        return ""
    return f" ({entry['ratio']:.2f}, {entry['ratio'] / steady['ratio']:.2f})" if "ratio" in steady else f" ({entry['ratio']:.2f})"


def images(entry):
    if not entry or "median" not in entry:
        return "–"
    return number(entry["images_per_second"]) + (f" ({1 / entry['ratio']:.2f})" if "ratio" in entry else "")


def table(head, rows):
    if not rows:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


TABLES = (  # each of the results; "" without works for it
    *(partial(forwards, precision=precision) for precision in ("fp32", "bf16", "int8")), trainings, gemms,
    *(partial(errors, precision=precision) for precision in ("bf16", "int8")), samplings, pictures, memory,
)
