#!/usr/bin/env python3
"""CIFAR-10 for a machine without a network: six pieces of some 17 MB, and back to the authors' files.

    PYTHONPATH=. python scripts/gpu/pack_cifar.py pack cifar-10-batches-bin pieces
    PYTHONPATH=. python scripts/gpu/pack_cifar.py unpack pieces cifar-10-batches-bin

Each of the authors' binary files becomes a mosaic, lossless WebP, and a file of labels. What is packed
and what is unpacked is compared with the SHA-256 of `normbench/data/download/catalogue.py`; unpacked, it
is what `dataset=cifar10 dataset.root=FOLDER` reads. Pieces may come one after another: `unpack` says
which are missing, and ends with 1 as long as one is.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from normbench.data.download.catalogue import File, find_entry

COLUMNS, SIDE = 100, 32


def right(file: File, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == file.sha256


def pack(file: File, source: Path, pieces: Path) -> str:
    """Writes the two pieces of a file; what went wrong, or nothing."""
    content = (source / file.name).read_bytes()
    if not right(file, content):
        return f"{source / file.name} is not the authors'"
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * SIDE * SIDE)
    tiles = records[:, 1:].reshape(-1, COLUMNS, 3, SIDE, SIDE).transpose(0, 3, 1, 4, 2)
    mosaic = Image.fromarray(np.ascontiguousarray(tiles.reshape(-1, COLUMNS * SIDE, 3)))
    mosaic.save(pieces / f"{file.name}.webp", lossless=True, quality=50, method=4)
    (pieces / f"{file.name}.labels").write_bytes(records[:, 0].tobytes())
    return "" if right(file, joined(file, pieces)) else f"{file.name} does not come back"


def joined(file: File, pieces: Path) -> bytes:
    """The authors' file from its two pieces."""
    labels = np.frombuffer((pieces / f"{file.name}.labels").read_bytes(), np.uint8)
    with Image.open(pieces / f"{file.name}.webp") as image:
        pixels = np.asarray(image.convert("RGB"))
    tiles = pixels.reshape(-1, SIDE, COLUMNS, SIDE, 3).transpose(0, 2, 4, 1, 3)
    records = np.concatenate([labels[:, None], tiles.reshape(len(labels), -1)], axis=1)
    return records.tobytes()


def unpack(file: File, pieces: Path, target: Path) -> str:
    """Writes the authors' file, unless it is there; what went wrong, or nothing."""
    path = target / file.name
    if path.is_file() and right(file, path.read_bytes()):
        return ""
    try:
        content = joined(file, pieces)
    except (OSError, ValueError) as error:
        return f"{file.name} is missing: {error}"
    if not right(file, content):
        return f"{file.name} is not the authors'"
    path.write_bytes(content)
    return ""


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    given.target.mkdir(parents=True, exist_ok=True)
    entry, do = find_entry("cifar10"), pack if given.way == "pack" else unpack
    Image.MAX_IMAGE_PIXELS = None
    wrong = [
        words for f in (*entry.train, *entry.test) if (words := do(f, given.source, given.target))
    ]
    print("\n".join(wrong) if wrong else f"{given.target}: all files, checked by SHA-256")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
