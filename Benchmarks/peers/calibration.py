"""OpenVINO's int8: what NNCF quantizes a network with, and the inputs that it measures activations on.

NNCF's post-training quantization, for transformers: SmoothQuant (alpha 0.95), weights symmetric a channel, activations
asymmetric a tensor (the preset "mixed"), fast bias correction. What differs from NNCF's defaults, in RECIPES: the range of
an activation is the smallest and largest value of the whole set (the default, the mean of the inputs' extremes, cuts off
those of single times), and the first layer, the last and the embedding of the time stay in floating point, which costs
no time. Where attention is one operation its queries and keys are quantized, its softmax and values are not.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np

RECIPE = 1  # raise it when a network is quantized differently: files in the cache carry it
COUNT = 64  # inputs of the set
ENDS = ["x_embedder", "t_embedder", "final_layer.linear"]  # in floating point
RECIPES = {  # name -> what stays in floating point; None: NNCF's defaults alone
    "nncf": None,
    "ends": ENDS,
    "modulation": [*ENDS, "adaLN_modulation"],
}
USED = "ends"  # in the benchmark: the fastest


def path(work):
    """Where the quantized network of a work is kept: beside its weights, one for every batch."""
    weights = Path(work["weights"])
    return weights.with_name(f"{weights.stem}-int8-{RECIPE}.xml")


def quantized(model, inputs, recipe=USED):
    """The model, converted with any batch, in int8; `inputs` are a list of arrays, each with all the samples."""
    import logging

    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.WARNING)
    kept, options = RECIPES[recipe], {}
    if kept is not None:
        options["ignored_scope"] = nncf.IgnoredScope(patterns=[f".*{name.replace('.', '[.]')}.*" for name in kept])
        options["advanced_parameters"] = nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)
    count = len(inputs[0])
    samples = nncf.Dataset(range(count), lambda index: [array[index : index + 1] for array in inputs])
    with contextlib.redirect_stdout(sys.stderr):  # progress
        return nncf.quantize(
            model, samples, model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=True, subset_size=count, **options)


def calibration(config, count=COUNT, seed=3, data=None):
    """Noisy inputs at times over the whole range, in no order, of all classes and of none: x, t, y."""
    random = np.random.default_rng(seed)
    shares = (random.permutation(count) + random.random(count)) / count
    return noisy(config, shares, random, data)


def noisy(config, shares, random, data=None):
    """x, t, y at each share of the path, 0 to 1: x_t = √ᾱ x_0 + √(1 − ᾱ) ε; of JiT (1 − t) ε + t x, t from 0 to 1.

    x_0 is of `data` (images with their labels), or a random field as smooth as pictures and latents are.
    """
    count, published = len(shares), "published" in config
    if published:
        import families

        side = families.SIZES[config["published"]]["image"]
        channels, size, classes = 3, (side, side), 1000
    else:
        channels, size, classes = config["channels"], config["input"], config["classes"]
    if data is None:
        clean, y = smooth(random, (count, channels, *size)), random.integers(0, classes, count)
    else:
        chosen = random.integers(0, len(data["images"]), count)
        clean, y = data["images"][chosen].astype(np.float32), data["labels"][chosen]
    y = np.where(random.random(count) < 0.1, classes, y).astype(np.int64)  # the last row is "no class"
    if published:
        t, signal, noise = shares, shares, 1 - shares
    else:
        t = np.minimum(np.floor(1000 * shares), 999)
        kept = alpha_bars(config.get("schedule", "linear"))[t.astype(int)]
        signal, noise = np.sqrt(kept), np.sqrt(1 - kept)
    wide = (count, 1, 1, 1)
    x = signal.reshape(wide) * clean + noise.reshape(wide) * random.standard_normal(clean.shape)
    return x.astype(np.float32), t.astype(np.float32), y


def smooth(random, shape):
    """Random fields whose amplitudes fall with the frequency, of deviation 1."""
    height, width = shape[-2:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = np.fft.rfft2(random.standard_normal(shape)) / np.maximum(frequency, 1 / max(height, width))
    field = np.fft.irfft2(spectrum, s=(height, width))
    return (field / field.std()).astype(np.float32)


def alpha_bars(schedule):
    if schedule == "linear":
        return np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))
    if schedule != "cosine":
        raise ValueError(f"schedule: expected linear or cosine, found {schedule!r}")
    curve = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - curve[1:] / curve[:-1], 0.999))
