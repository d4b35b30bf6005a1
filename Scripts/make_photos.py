"""A folder of JPEGs to time data loading with: class folders, mixed sizes, something like photographs.

    python3 Scripts/make_photos.py FOLDER [--count 2000] [--classes 10]

Each picture is a few octaves of smooth noise over a gradient with a little grain, 300 to 1200 pixels a side, of quality 80
to 95, in grey for one of twenty. The same arguments give the same pictures (with the same Pillow). Needs numpy and Pillow.
"""

import argparse
import pathlib

import numpy
from PIL import Image


def picture(random):
    width, height = (int(side) for side in random.integers(300, 1201, 2))
    x = numpy.linspace(0, 1, width)[None, :, None]
    y = numpy.linspace(0, 1, height)[:, None, None]
    colours = random.uniform(0, 255, (3, 3))
    pixels = colours[0] + (colours[1] - colours[0]) * x + (colours[2] - colours[0]) * y
    for octave in range(2, 8):
        grid = random.normal(0, 1, (2**octave, 2**octave, 3)).astype(numpy.float32)
        for channel in range(3):
            layer = Image.fromarray(grid[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            pixels[..., channel] += 160 / 1.6**octave * numpy.asarray(layer)
    pixels += random.normal(0, 3, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))
    return image.convert("L") if random.random() < 0.05 else image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    for number in range(arguments.count):
        random = numpy.random.default_rng([5, number])
        folder = arguments.folder / f"class-{number % arguments.classes}"
        folder.mkdir(parents=True, exist_ok=True)
        picture(random).save(folder / f"{number:05}.jpg", quality=int(random.integers(80, 96)))


if __name__ == "__main__":
    main()
