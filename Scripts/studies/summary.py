#!/usr/bin/env python3
"""Writes the summary of the studies into Studies.md and what the source's readings are worth into Glossary.md, both in Documentation,
between their markers, from Documentation/studies/{ablation,jump,unet}.json.

    python3 Scripts/studies/summary.py

A study that has not been run leaves its line out.
"""

import math
import statistics

import study

# What the source says twice, in both languages; what was chosen; and the ablation's names of the readings.
CONTRADICTIONS = [
    ("temperature: the formula is sharper at high noise, the summary at low noise",
     "温度：按公式，噪声越大注意力越尖锐；按总结，噪声越小注意力越尖锐",
     "`standard`; both readings kept · 默认 `standard`，两种读法都保留",
     {"`sqrt_beta` (formula · 公式)": "temperature sqrt_beta", "`inverse_sqrt_beta` (summary · 总结)": "temperature inverse_sqrt_beta"}),
    ("window: the formula is wide at low noise, the prose at high noise",
     "窗口：公式在低噪声时宽，正文却说高噪声时宽",
     "`full`; both readings kept, with `mask: soft` or `hard` · 默认 `full`，两种读法都保留，须同时设 `mask: soft` 或 `hard`",
     {"`signal` (formula · 公式), soft": "mask soft, window signal", "`noise` (prose · 正文), soft": "mask soft, window noise",
      "`signal`, hard": "mask hard, window signal", "`noise`, hard": "mask hard, window noise"}),
    ("mask: the formula multiplies logits, so that what is masked still takes part; a mask is commonly −∞",
     "掩码：公式把掩码与注意力 logits 逐元素相乘，被遮蔽的 token 仍以权重 e⁰ 参与；通常的做法是置为 −∞",
     "`none`; both readings kept · 默认 `none`，两种读法都保留",
     {"`soft` (formula · 公式), window `signal`": "mask soft, window signal",
      "`hard` (common · 通常), window `signal`": "mask hard, window signal",
      "`soft`, window `noise`": "mask soft, window noise", "`hard`, window `noise`": "mask hard, window noise",
      "window `full`: nothing masked, the gate alone · 无遮蔽，只有门控": "mask soft, window full"}),
    ("distance: the formula's |i−j| counts tokens along the rows, while an image has two dimensions",
     "距离：公式的 |i−j| 沿着按行展开的 token 计数，而图像是二维的", "`raster`; both readings kept · 默认 `raster`，两种读法都保留", {"`grid`, soft, window `signal`": "mask soft, window signal, distance grid",
      "`grid`, hard, window `signal`": "mask hard, window signal, distance grid"}),
    ("time embedding: a sum of pairs would be one number; `literal` reads it as concatenation, with frequencies that grow",
     "时间嵌入：公式若按求和理解，只得到一个数；`literal` 按拼接理解，频率随 k 递增",
     "`dit`, the published one · 默认 `dit`（原版）", {"`literal`": "time_frequencies literal"}),
    ("conditioning: the formula adds embeddings to the tokens, the published DiT modulates",
     "条件：公式把嵌入直接加到 token 上，原版 DiT 用自适应层归一化调制",
     "`adaln_zero`; both readings kept · 默认 `adaln_zero`，两种读法都保留", {"`additive` (formula · 公式)": "conditioning additive"}),
    ("target: the formula predicts the reverse mean, the loss is of noise",
     "预测目标：公式让网络预测反向过程的均值，损失却按噪声计算",
     "`epsilon`; the model of clothes takes `velocity` · 默认 `epsilon`；服装模型用 `velocity`",
     {"`mean` (formula · 公式)": "prediction mean", "`v`": "prediction v", "`velocity` (with `path: linear` and Euler; `flow` there · 连同 `path: linear` 与 Euler 采样，消融表中记作 `flow`)": "prediction flow"}),
    ("sequence consistency: a KL of autoregressive conditionals, while the reverse process is independent for each patch",
     "序列一致性：损失是自回归条件分布之间的 KL，而反向过程中（给定 x_t）各图像块相互独立",
     "teacher forcing against a fitted prior; `lambda_seq` 0 · 与在训练集上拟合的先验比较，条件中第 i 块之前的图像块取自加噪的真实数据（教师强制，teacher forcing）；默认 `lambda_seq` 为 0，即不启用",
     {"`lambda_seq` 0.01": "lambda_seq 0.01", "`lambda_seq` 0.1": "lambda_seq 0.1"}),
]  # fmt: skip


def mean(values):
    """Of distances, which differ by factors: the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def ablation(value):
    for data, result in value["sets"].items():
        variants = result["variants"]
        for name, row in variants.items():
            if name == "published":
                continue
            base = mean(row.get("against", variants["published"]["frechet"]))
            verdict = "no difference seen" if row["holm"] > 0.05 else "better" if row["ratio"] < 1 else "worse"
            chance = "< 0.0001" if row["holm"] < 1e-4 else f"= {row['holm']:.2g}"
            yield [f"{data}: {name}", f"{mean(row['frechet']):.3f} against {base:.3f} (× {row['ratio']:.2f})",
                   f"{verdict} (p {chance})"]


def contradictions(variants):
    """A row for each contradiction of the notes, with the worth of its readings."""
    for english, chinese, chosen, readings in CONTRADICTIONS:
        worth = []
        for word, name in readings.items():
            row = variants.get(name)
            worth.append(f"{word} → " + ("not measured · 未测" if row is None else f"{row['ratio']:.2f}{' ≈' if row['holm'] > 0.05 else ''}"))
        yield [f"{english}<br>{chinese}".replace("|", "\\|"), chosen, "<br>".join(worth)]


PAGES = {"ablation": "Ablation", "jump": "JumpSampling", "unet": "UNet", "speed": "SpeedAndQuality"}


def jump(value):
    """Ratios are to all 1,000 steps: of DDPM for DDPM, of DDIM for the others."""
    whole = {row["sampler"]: row["distance"] for row in value["runs"] if row["steps"] == 1000}
    short = [row for row in value["runs"] if row["steps"] < 1000]
    for sampler in dict.fromkeys(row["sampler"] for row in short):
        within = [row for row in short if row["sampler"] == sampler and row["ratio"] <= 1.05]
        best = min(within, key=lambda row: (row["steps"], row["distance"]), default=None)
        found = f"{best['steps']} steps ({best['schedule']}): {best['distance']:.3f}" if best else "none up to 200"
        reference = sampler if sampler in whole else "ddim"
        yield [f"fewest {sampler} steps within 5 % of 1000 of {reference}", found,
               f"1000 steps: {whole[reference]:.3f}"]


def unet(value):
    runs = {}
    for row in value["runs"]:
        runs.setdefault((row["sampler"], row["steps"]), {}).setdefault(row["network"], []).append(row)
    for (sampler, steps), networks in runs.items():
        ours, theirs = ({"distance": mean([row["distance"] for row in networks[name]]),
                         "seconds": statistics.mean(row["seconds"] for row in networks[name])} for name in ("DiT", "U-Net"))
        yield [f"DiT against a U-Net, {sampler}, {steps} steps", f"{ours['distance']:.3f} against {theirs['distance']:.3f}",
               f"{ours['seconds']:.1f} s against {theirs['seconds']:.1f} s for {value['images']} images"]


def main():
    rows = []
    for name, lines in (("ablation", ablation), ("jump", jump), ("unet", unet)):
        value = study.read_json(study.DOCUMENTATION / "studies" / f"{name}.json")
        rows += lines(value) if value else []
    if not rows:
        raise study.Failed("Documentation/studies: no study has been run")
    study.between_markers(study.DOCUMENTATION / "Studies.md", "studies", study.table(["what", "Fréchet distance (geometric mean)", "p, or the reference, or the time"], rows))
    value = study.read_json(study.DOCUMENTATION / "studies/ablation.json")
    if value:
        rows = contradictions(value["sets"]["digits"]["variants"])
        study.between_markers(study.DOCUMENTATION / "Glossary.md", "contradictions",
                              study.table(["contradiction · 矛盾", "chosen · 选择", "worth · 效果"], rows))  # fmt: skip
    for name, page in PAGES.items():
        value = study.read_json(study.DOCUMENTATION / "studies" / f"{name}.json")
        if value:
            study.between_markers(study.DOCUMENTATION / f"{page}.md", "measured", study.measured(value))


if __name__ == "__main__":
    study.main(main)
