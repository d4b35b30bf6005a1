"""The results as a picture: each peer's time over ours, a panel for each kind of work and precision."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from report import NAMES, entries, short

PANELS = [
    ("forward", "fp32", "Forward pass, fp32"), ("forward", "bf16", "Forward pass, bf16"),
    ("forward", "int8", "Forward pass, int8"),
    ("train", "fp32", "Training step, fp32"), ("train", "bf16", "Training step, bf16"),
]
COLOURS = {
    "torch": "#d1603d", "openvino": "#3a7ca5", "onnxruntime": "#8fb8a8", "jax": "#8d6a9f",
}
OURS = "#222222"


def draw(results, path):
    """Answers whether there was anything to draw."""
    panels = []
    for kind, precision, title in PANELS:
        works = [w for w in results["works"] if (w["kind"], w["precision"]) == (kind, precision) and ratios(w)]
        if works:
            panels.append((title, works))
    if not panels:
        return False
    columns = min(2, len(panels))
    lines = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(sum(1 + len(ratios(w)) for w in works) for _, works in line) for line in lines]
    figure, axes = plt.subplots(
        len(lines), columns, figsize=(5.2 * columns, 1.3 + 0.14 * sum(heights) + 0.6 * len(lines)), squeeze=False,
        gridspec_kw={"height_ratios": [height + 1 for height in heights]}, layout="constrained")
    shown = {}
    for index, axis in enumerate(axes.flat):
        if index < len(panels):
            shown |= panel(axis, *panels[index])
        else:
            axis.axis("off")
    machine = results["machine"]
    title = f"Time of a call relative to ours (shorter is faster)\n{machine['cpu']}, {machine['threads']} threads"
    figure.suptitle(title, fontsize=11)
    labels = [label for label in ["ours", *NAMES] if label in shown]
    figure.legend(
        [shown[label] for label in labels], [NAMES.get(label, label) for label in labels], loc="outside lower center",
        ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True


def ratios(work):
    """Peer -> its time over ours."""
    found = entries(work)
    return {name: 1 / found[name]["ratio"] for name in NAMES if "ratio" in found.get(name, {})}


def panel(axis, title, works):
    """One group of bars a work, from top to bottom; answers label -> what to show of it in the legend."""
    shown, ticks, place = {"ours": axis.axvline(1, color=OURS, linewidth=1.4, zorder=3)}, [], 0.0
    for work in works:
        values = ratios(work)
        ticks.append((place + (len(values) - 1) / 2, short(work)))
        for name, value in values.items():
            shown[name] = axis.barh(place, value, height=0.86, color=COLOURS[name])
            axis.annotate(
                f"{value:.2f}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=7, color=OURS,
                zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})
            place += 1
        place += 0.9
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_yticks([tick for tick, _ in ticks], [text for _, text in ticks], fontsize=8)
    axis.set_ylim(place - 1.2, -0.8)  # the first work on top
    axis.set_xlim(0, 1.15 * max(1.0, *(value for work in works for value in ratios(work).values())))
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return shown
