"""Writes the archives beside it: tar files by Python's tarfile in its three formats, IDX files and their gzip by Python's gzip.

The pictures' pixels follow from their number, so that tests know them: picture k of W x H has (31 k + 7 y + 3 x) mod 256.
Needs Pillow; run with Python 3.11.
"""

import gzip
import io
import pathlib
import struct
import tarfile

from PIL import Image

HERE = pathlib.Path(__file__).parent


def pixels(k, width=6, height=4):
    return bytes((31 * k + 7 * y + 3 * x) % 256 for y in range(height) for x in range(width))


def png(k):
    out = io.BytesIO()
    Image.frombytes("L", (6, 4), pixels(k)).save(out, "PNG")
    return out.getvalue()


def tar(name, members, form):
    with tarfile.open(HERE / name, "w", format=form, bufsize=512) as archive:
        for path, data in members:
            info = tarfile.TarInfo(path)
            if data is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def main():
    for folder in ("idx", "emnist"):
        (HERE / folder).mkdir(exist_ok=True)
    samples = []
    for k, label in enumerate([3, 0, 3, 1, 7]):
        samples += [(f"{k:06d}.cls", f"{label}\n".encode()), (f"{k:06d}.png", png(k))]
        if k == 1:
            samples += [(f"{k:06d}.json", b"{}")]
    samples[2:4] = samples[3:1:-1]  # a label behind its picture
    tar("samples-000.tar", samples, tarfile.PAX_FORMAT)
    tar("samples-001.tar", [("000000.png", png(5)), ("000000.cls", b"2")], tarfile.GNU_FORMAT)
    deep = "/".join(["a-folder-whose-name-is-long"] * 6)
    folders = [("./dog/", None), (f"./dog/{deep}/x.v2.png", png(0)), ("./cat/é.png", png(1)), ("./dog/y.png", png(2))]
    tar("folders-pax.tar", folders, tarfile.PAX_FORMAT)
    tar("folders-gnu.tar", folders, tarfile.GNU_FORMAT)
    tar("folders-ustar.tar", [m for m in folders if "é" not in m[0]] + [("./cat/e.png", png(1))], tarfile.USTAR_FORMAT)

    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 5, 4, 6) + b"".join(pixels(k) for k in range(5))
    labels = struct.pack(">BBBBI", 0, 0, 8, 1, 5) + bytes([3, 0, 3, 1, 7])
    (HERE / "idx/train-images-idx3-ubyte").write_bytes(images)
    (HERE / "idx/train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, mtime=0))
    test = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 4, 6) + pixels(8) + pixels(9)
    cut = len(test) // 2  # two members of gzip, one after the other
    (HERE / "idx/t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(test[:cut], mtime=0) + gzip.compress(test[cut:], mtime=0))
    (HERE / "idx/t10k-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 2) + bytes([1, 0]))
    square = bytes((31 * k + 7 * x + 3 * y) % 256 for k in range(2) for y in range(4) for x in range(4))
    (HERE / "emnist/emnist-letters-train-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 4, 4) + square, mtime=0))
    (HERE / "emnist/emnist-letters-train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2) + bytes([1, 2]), mtime=0))
    (HERE / "emnist/emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n")


main()
