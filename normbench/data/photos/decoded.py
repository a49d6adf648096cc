"""Every image of a folder decoded once: which can be, their sizes, and their pixels on disk.

decoded/<key>/ in the cache of datasets holds index.npy (offset, height and width of each image, all
0 for one that cannot be decoded), faults.json and, where pixels are kept, pixels (RGB bytes, row by
row, one image after the other). It is written aside and moved into place; processes that want it at
once make it once. The key is of names, sizes and times of change of the files, as of a backup: to
read ImageNet in order to know that it is the same would take as long as to decode it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from normbench.data.download.sources import cache_root
from normbench.data.download.transfer import show
from normbench.data.photos.decode import (
    Bytes,
    Decoders,
    Fault,
    Place,
    cores,
    decode,
    refuse_to_begin_twice,
    resized,
)
from normbench.data.photos.tree import Tree
from normbench.errors import FailedError

FORMAT = 1  # of the files: another number, another key
CHUNK = 16  # images a worker is given at a time
INDEX, FAULTS, PIXELS = "index.npy", "faults.json", "pixels"


@dataclass(frozen=True)
class Decoded:
    """`index` int64 [N, 3]: offset, height, width of each image of the tree; height 0: a fault.

    `pixels` is the file of bytes, None where none were kept: then sizes are those of the originals.
    `faults`: (name, reason).
    """

    index: NDArray[np.int64]
    faults: tuple[tuple[str, str], ...]
    pixels: Path | None
    folder: Path


def decode_all(tree: Tree, side: int | None) -> Decoded:
    """All images decoded, now or by an earlier run; FailedError if the result cannot be written.

    `side`: keep their pixels, resized to so many on the shorter side; None: only find out which can
    be decoded, and how large they are.
    """
    folder = decoded_folder(tree, side)
    if not folder.is_dir():
        refuse_to_begin_twice()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{folder.name}.lock")):
                if not folder.is_dir():
                    _make(tree, side, folder)
        except OSError as error:
            raise FailedError(
                f"cannot write decoded images to {folder}: {error.strerror or error};"
                " name another place by NORMBENCH_DATA, or keep none by dataset.cache=false"
            ) from error
    faults = json.loads((folder / FAULTS).read_text(encoding="utf-8"))
    index = np.load(folder / INDEX)
    pixels = None if side is None else folder / PIXELS
    return Decoded(index, tuple((name, reason) for name, reason in faults), pixels, folder)


def decoded_folder(tree: Tree, side: int | None) -> Path:
    """The folder of the decoded images, which need not be there yet."""
    return cache_root() / "decoded" / key(tree, side)


def key(tree: Tree, side: int | None) -> str:
    """What names the decoded images: 16 hexadecimal digits."""
    sum_ = hashlib.sha256(f"{FORMAT} {side}\n".encode())
    for image in tree.images:
        line = f"{image.name}\0{image.size}\0{image.changed}\n"
        sum_.update(line.encode("utf-8", "surrogateescape"))
    return sum_.hexdigest()[:16]


def _make(tree: Tree, side: int | None, folder: Path) -> None:
    """For one process at a time: the lock is held."""
    aside = folder.with_name(
        f".{folder.name}.incoming"
    )  # one name: what a killed process left goes
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        index = np.zeros((len(tree.images), 3), np.int64)
        faults, offset = [], 0
        with (aside / PIXELS).open("wb") as file, Decoders(cores()) as decoders:
            for i, result in enumerate(_results(decoders, tree, side)):
                if isinstance(result, Fault):
                    faults.append((tree.images[i].name, result.reason))
                elif isinstance(result, tuple):
                    index[i] = 0, *result
                else:
                    index[i] = offset, *result.shape[:2]
                    offset += file.write(result.data)
        np.save(aside / INDEX, index)
        (aside / FAULTS).write_text(json.dumps(faults, indent=0), encoding="utf-8")
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _results(
    decoders: Decoders, tree: Tree, side: int | None
) -> Iterator[Bytes | tuple[int, int] | Fault]:
    """Of each image, in their order."""
    places = [Place(image.path, image.offset, image.size) for image in tree.images]
    chunks = (places[i : i + CHUNK] for i in range(0, len(places), CHUNK))
    done, shown = 0, 0.0
    for results in decoders.map(partial(_work, side), chunks):
        yield from results
        done += len(results)
        if time.monotonic() - shown > 0.2:
            show(f"decoding images, once: {done} of {len(places)}")
            shown = time.monotonic()
    show("")


def _work(side: int | None, places: list[Place]) -> list[Bytes | tuple[int, int] | Fault]:
    """In a worker: pixels [height, width, 3], or (height, width) of the original."""
    results: list[Bytes | tuple[int, int] | Fault] = []
    for place in places:
        image = decode(place)
        if isinstance(image, Fault):
            results.append(image)
        elif side is None:
            results.append((image.height, image.width))
        else:
            results.append(np.asarray(resized(image, side)))
    return results
