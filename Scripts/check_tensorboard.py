#!/usr/bin/env python3
"""Reads a folder of event files with TensorBoard's own reader and prints what it finds as JSON:

    check_tensorboard.py FOLDER     {"scalars": {TAG: [[step, value], …]}, "images": {TAG: [[step, width, height], …]}}

Every record's checksum is verified, and every picture is opened. Needs tensorboard and Pillow.
"""

import io
import json
import sys

from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(folder):
    events = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]}
    # What the web page shows under --load_fast=false: the same points.
    shown = plugin_event_accumulator.EventAccumulator(folder, size_guidance={"tensors": 0})
    shown.Reload()
    for tag, points in scalars.items():
        steps = [event.step for event in shown.Tensors(tag)]
        if steps != [step for step, _ in points]:
            sys.exit(f"{tag}: steps {steps} on the web page, {[step for step, _ in points]} in the files")
    images = {}
    for tag in tags["images"]:
        images[tag] = []
        for event in events.Images(tag):
            with Image.open(io.BytesIO(event.encoded_image_string)) as picture:
                picture.load()
                size = picture.size
            if size != (event.width, event.height):
                sys.exit(f"{tag} at step {event.step}: {size} pixels, stated {event.width}x{event.height}")
            images[tag].append([event.step, *size])
    json.dump({"scalars": scalars, "images": images}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
