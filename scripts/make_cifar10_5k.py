#!/usr/bin/env python3
"""Make the embedded `cifar10_5k` from the authors' binary CIFAR-10.

    python scripts/make_cifar10_5k.py cifar-10-batches-bin

Takes the first 500 training and the first 200 test images of each class in order of appearance,
lays them out class by class as one mosaic a split (100 tiles of 32 x 32 a row, so that the label
of tile i is i // 500 or i // 200), writes the mosaics as lossless WebP, decodes them again to
check every pixel, and prints their SHA-256 for `normbench/data/download/catalogue.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

EMBEDDED = Path(__file__).resolve().parent.parent / "normbench" / "data" / "embedded"
SPLITS = {
    "train": ([f"data_batch_{i}.bin" for i in range(1, 6)], 500),
    "test": (["test_batch.bin"], 200),
}
COLUMNS, SIDE, CLASSES = 100, 32, 10

Bytes = npt.NDArray[np.uint8]


def first_of_each_class(folder: Path, names: list[str], per_class: int) -> Bytes:
    """[10 * per_class, 3, 32, 32] uint8: the first `per_class` images of class 0, then of 1, ..."""
    raw = np.concatenate([np.fromfile(folder / name, np.uint8) for name in names])
    records = raw.reshape(-1, 1 + 3 * SIDE * SIDE)
    picked = [np.flatnonzero(records[:, 0] == label)[:per_class] for label in range(CLASSES)]
    return records[np.concatenate(picked), 1:].reshape(-1, 3, SIDE, SIDE)


def mosaic(images: Bytes) -> Bytes:
    """[rows * 32, 3200, 3] uint8 from [rows * 100, 3, 32, 32], tiles row by row."""
    tiles = images.reshape(-1, COLUMNS, 3, SIDE, SIDE).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(tiles.reshape(-1, COLUMNS * SIDE, 3))


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the embedded cifar10_5k.")
    parser.add_argument("folder", type=Path, help="cifar-10-batches-bin, with the six .bin files")
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for split, (names, per_class) in SPLITS.items():
        pixels = mosaic(first_of_each_class(args.folder, names, per_class))
        path = args.out / f"{split}.webp"
        Image.fromarray(pixels).save(path, lossless=True, quality=100, method=6)
        if not np.array_equal(np.asarray(Image.open(path).convert("RGB")), pixels):
            path.unlink()
            print(f"{path}: decoded pixels differ from the source", file=sys.stderr)
            return 1
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
