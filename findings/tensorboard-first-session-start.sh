#!/usr/bin/env bash
# TensorBoard 2.21.0: a session's start drops stale points on the web page only where the run's first file has one too.
#
# A guess: SessionLog.START in the file of a resumed run, with the step it goes on from, is enough: events of that step and
# later ones in earlier files no longer count, as EventAccumulator has it, and as its documentation says of restarts.
# Seen: the reader behind the web page (plugin_event_accumulator, under --load_fast=false) takes the first START of a run for
# its beginning and drops nothing. Writers such as torch's SummaryWriter write none into a run's first file. `dit train
# --tensorboard` writes one into every file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check tensorboard==2.21.0 numpy==2.4.6 setuptools==80.9.0
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import os
import sys

import tensorboard
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

START = event_pb2.SessionLog(status=event_pb2.SessionLog.START)


def write(path, steps, start):
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        events = [event_pb2.Event(wall_time=1, file_version="brain.Event:2")]
        if start is not None:
            events.append(event_pb2.Event(wall_time=1, step=start, session_log=START))
        for step in steps:
            value = summary_pb2.Summary.Value(tag="loss", simple_value=step)
            events.append(event_pb2.Event(wall_time=2 + step, step=step, summary=summary_pb2.Summary(value=[value])))
        for event in events:
            writer.write(event.SerializeToString())


print("tensorboard", tensorboard.__version__)
seen = {}
for first in (None, 0):
    folder = f"{sys.argv[1]}/run-{first}"
    os.makedirs(folder)
    write(f"{folder}/events.out.tfevents.0000000001.a", range(1, 41), first)
    write(f"{folder}/events.out.tfevents.0000000002.a", range(21, 26), 21)  # resumed after step 20
    files = event_accumulator.EventAccumulator(folder).Reload()
    page = plugin_event_accumulator.EventAccumulator(folder).Reload()
    seen[first] = [[e.step for e in files.Scalars("loss")], [e.step for e in page.Tensors("loss")]]
    words = "no start" if first is None else f"a start at step {first}"
    print(f"first file with {words}: EventAccumulator's last step {seen[first][0][-1]} of {len(seen[first][0])},")
    print(f"  the web page's reader: {len(seen[first][1])} points, steps 21 to 40 {'kept' if 40 in seen[first][1] else 'dropped'}")
resumed = list(range(1, 26))
assert seen[None][0] == resumed and seen[0] == [resumed, resumed]
assert seen[None][1] == list(range(1, 41)) + list(range(21, 26)), "the first start drops stale points now"
PYTHON
