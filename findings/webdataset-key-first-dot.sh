#!/usr/bin/env bash
# webdataset 1.0.2: the key of a file in a tar archive ends at the FIRST dot of its name, not at the last as a file's ending does. Pictures
# that are numbered with decimals (a time, a version, a guidance strength) therefore share one key, and become one sample, whose fields are
# named by what follows the first dot: of two pictures with their labels comes one sample of four fields, without a word, and a loader
# that asks for pictures and labels finds neither.
# Seen: from t-0.25 and t-0.5, each a .png and a .cls, one sample of the key t-0 with the fields 25.cls, 25.png, 5.cls and 5.png;
# to_tuple("png", "cls") raises ValueError. The same files with an underscore for the dot are two samples.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q webdataset==1.0.2 numpy==2.4.6 pillow==13.0.0
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import io, pathlib, sys, tarfile

import numpy
import webdataset
from PIL import Image

folder = pathlib.Path(sys.argv[1])


def archive(name, keys):
    with tarfile.open(folder / name, "w") as tar:
        for number, key in enumerate(keys):
            picture = io.BytesIO()
            Image.fromarray(numpy.full((8, 8, 3), 50 * number, numpy.uint8)).save(picture, "PNG")
            for ending, data in (("png", picture.getvalue()), ("cls", b"%d" % number)):
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return webdataset.WebDataset(str(folder / name), shardshuffle=False)


def seen(dataset):
    return [(sample["__key__"], sorted(key for key in sample if not key.startswith("__"))) for sample in dataset]


dotted, plain = archive("dotted.tar", ["t-0.25", "t-0.5"]), archive("plain.tar", ["t-0_25", "t-0_5"])
print("webdataset", webdataset.__version__, "with dots:", seen(dotted), "without:", seen(plain))
assert seen(dotted) == [("t-0", ["25.cls", "25.png", "5.cls", "5.png"])]
assert seen(plain) == [("t-0_25", ["cls", "png"]), ("t-0_5", ["cls", "png"])]
assert [label for _, label in plain.decode("rgb8").to_tuple("png", "cls")] == [0, 1]
try:
    list(dotted.decode("rgb8").to_tuple("png", "cls"))
except ValueError as error:
    print("ValueError:", str(error)[:60])
else:
    sys.exit("pictures and labels were found")
PYTHON
