"""A dataset by its name: loaded for a run, or brought to the disk before one.

Imports of torch are in the functions, so that a sweep can prepare its data without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normbench.data.download import sources
from normbench.data.held_out import without_validation
from normbench.data.photos.root import FOLDERS

if TYPE_CHECKING:
    from normbench.data.packed import Dataset
    from normbench.data.photos.dataset import FolderDataset


def load_dataset(
    name: str, *, root: Path | str | None = None, source: str | None = None, **options: Any
) -> Dataset | FolderDataset:
    """The dataset `name`, with the options of its file in conf/dataset.

    cifar10_5k is part of the package. `root` holds the authors' folder of binary files of cifar10 or
    cifar100 (fine labels), or is that folder; what is not there is downloaded into it, from
    `source` first where that is given (see `sources.ensure`). Folders of images: see `open_photos`.
    `validation`: so many training images are held out and take the place of the test images.
    An unknown name or option, or a root that is no folder, is a UserError; a damaged file, or one
    that cannot be had, is a FailedError.
    """
    options, count = without_validation(options)
    data = _load(name, root, source, options)
    return data.with_validation(count) if count else data


def _load(
    name: str, root: Path | str | None, source: str | None, options: Mapping[str, Any]
) -> Dataset | FolderDataset:
    if name in FOLDERS:
        from normbench.data.photos.dataset import FolderDataset
        from normbench.data.photos.folder import open_photos

        root = str(root) if root is not None else None
        return FolderDataset(open_photos(name, {"root": root, "source": source, **options}))
    from normbench.data.packed import load_packed

    return load_packed(name, None if root is None else Path(root), source, options)


def prepare(name: str, options: Mapping[str, Any]) -> None:
    """Downloads the dataset, and decodes its images where they are kept, before a run wants them."""
    if name in FOLDERS:
        from normbench.data.photos.folder import open_photos  # needs NumPy and Pillow

        open_photos(name, without_validation(options)[0])
        return
    root, source = options.get("root"), options.get("source")
    sources.ensure(name, root=Path(root) if root else None, source=source)
