"""What lies in a folder of images, train/CLASS/FILE and val/CLASS/FILE, or in a tar of one.

Names and sizes only: nothing is decoded, and nothing slow is imported.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

TRAIN = "train"
TESTS = ("val", "validation", "test")  # the first that is there is the test set
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff")


class Image(NamedTuple):
    """A file with the name of an image: where its bytes lie, and since when."""

    name: str  # SPLIT/CLASS/FILE
    path: str  # the file itself, or the tar that holds it
    offset: int
    size: int  # bytes
    changed: int  # nanoseconds since 1970


Split = dict[str, list[Image]]  # by class, empty classes too; classes and files sorted


@lru_cache(maxsize=4)
def listing(root: str) -> dict[str, Split]:
    """The splits below a folder, or in a tar, that is taken to stay as it is for this process.

    Only names that end like an image's and do not begin with a dot. OSError, tarfile.TarError.
    """
    path = Path(root).expanduser()
    found: dict[str, Split] = {s: {} for s in (TRAIN, *TESTS) if (path / s).is_dir()}
    for image in _of_folder(path) if path.is_dir() else _of_tar(path):
        split, label, file = image.name.split("/")
        some = found.setdefault(split, {}).setdefault(label, [])
        if file.lower().endswith(SUFFIXES) and not file.startswith("."):
            some.append(image)
    return {
        split: {label: sorted(classes[label]) for label in sorted(classes)}
        for split, classes in found.items()
    }


def _of_folder(root: Path) -> Iterator[Image]:
    """Every file of every class; for the class itself, a name that ends in a slash."""
    for split in (TRAIN, *TESTS):
        inside = os.scandir(root / split) if (root / split).is_dir() else ()
        for label in (entry.name for entry in inside if not loops(entry) and entry.is_dir()):
            if label.startswith("."):
                continue
            yield Image(f"{split}/{label}/", "", 0, 0, 0)
            for entry in os.scandir(root / split / label):
                name = f"{split}/{label}/{entry.name}"
                if loops(entry):  # of no content: who decodes it names it
                    yield Image(name, entry.path, 0, 0, 0)
                elif entry.is_file():
                    about = entry.stat()
                    yield Image(name, entry.path, 0, about.st_size, about.st_mtime_ns)


def loops(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link that leads back to itself."""
    try:
        entry.is_file()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _of_tar(path: Path) -> Iterator[Image]:
    """The same from the headers of a tar that is not compressed, below any folder."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if member.isdir() and len(parts) > 1 and parts[-2] in (TRAIN, *TESTS):
                yield Image(f"{parts[-2]}/{parts[-1]}/", "", 0, 0, 0)
            elif member.isfile() and len(parts) > 2 and parts[-3] in (TRAIN, *TESTS):
                where = member.offset_data, member.size, int(member.mtime * 1e9)
                yield Image("/".join(parts[-3:]), str(path), *where)


@lru_cache(maxsize=4)
def digest(root: str) -> str | None:
    """SHA-256 of the names of classes, and names and sizes of images. None: it is not there.

    Sizes tell copies at other resolutions apart, and a copy to another place is the same.
    """
    try:
        splits = listing(root)
    except (OSError, tarfile.TarError):
        return None
    sum_ = hashlib.sha256()
    for split, classes in splits.items():
        for label, images in classes.items():
            sum_.update(f"{split}/{label}\n".encode("utf-8", "surrogateescape"))
            for image in images:
                sum_.update(f"{image.name}\0{image.size}\n".encode("utf-8", "surrogateescape"))
    return sum_.hexdigest()
