"""A dataset that is a folder of photographs: opened, checked, and put before the loop."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from normbench.data.decoded import Decoded, decoded, place_of
from normbench.data.info import tree_of
from normbench.data.options import Options, options
from normbench.data.sources import cache_root
from normbench.data.tree import Tree
from normbench.errors import UserError

if TYPE_CHECKING:
    import torch

    from normbench.data.feed import Feed

SHOWN = 5  # faults that are named on the terminal


@dataclass(frozen=True)
class FolderDataset:
    """The images that can be decoded: `train` and `test` are their numbers in the tree, int64.

    With `decoded.pixels` batches are cropped from these on the device (`kept`), else worker processes
    decode them anew in each epoch (`streamed`).
    """

    name: str
    options: Options
    tree: Tree
    decoded: Decoded
    train: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def classes(self) -> int:
        return len(self.tree.classes)

    def on(
        self,
        device: torch.device | str,
        *,
        channels_last: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Feed:
        """The batches of both splits on `device`; dtype None is float32."""
        from normbench.data.kept import KeptFeed
        from normbench.data.streamed import StreamedFeed

        kind = StreamedFeed if self.decoded.pixels is None else KeptFeed
        return kind(self, device, channels_last=channels_last, dtype=dtype)


def open_folder(name: str, given: Mapping[str, Any]) -> FolderDataset:
    """The folder of the dataset `name`: downloaded where that is possible, and every image decoded
    once. Files that cannot be are named on stderr and left out. UserError for a folder that cannot
    be meant so."""
    chosen = options(given)
    tree = tree_of(name, chosen)
    keep = chosen.cache
    if keep == "auto":  # once kept they stay in use, however little room they have left
        keep = place_of(tree, chosen.side).is_dir() or fits(len(tree.images), chosen.side)
    found = decoded(tree, chosen.side if keep else None)
    good = np.flatnonzero(found.index[:, 1])
    data = FolderDataset(
        name, chosen, tree, found, good[good < tree.train], good[good >= tree.train]
    )
    _complete(data)
    for line in (tree.note, faults(data)):
        if line:
            print(f"normbench: {name}: {line}", file=sys.stderr)
    return data


def fits(images: int, side: int) -> bool:
    """Whether decoded images take at most half of this machine's memory, and fit on the disk.

    At an aspect of 4:3 an image takes 4 · side² bytes.
    """
    needed = 4 * side**2 * images
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    place = cache_root()
    while not place.exists():
        place = place.parent
    return needed <= memory / 2 and needed <= shutil.disk_usage(place).free


def _complete(data: FolderDataset) -> None:
    """UserError where no image of a class, or none for testing, can be decoded."""
    labels = np.asarray(data.tree.labels)
    lost = np.setdiff1d(np.arange(data.classes), labels[data.train])
    what = f"class {data.tree.classes[lost[0]]!r} for training" if len(lost) else ""
    if not len(data.test):
        what = what or "test set"
    if what:
        name, reason = data.decoded.faults[0]
        raise UserError(
            f"{data.name}: no image of the {what} can be decoded (all are listed in"
            f" {data.decoded.folder / 'faults.json'}; {name}: {reason}); replace the files"
        )


def faults(data: FolderDataset) -> str:
    """How many files are left out, which, and why; an empty string where none is."""
    found = data.decoded.faults
    if not found:
        return ""
    some = "; ".join(f"{name}: {reason}" for name, reason in found[:SHOWN])
    rest = len(found) - SHOWN
    more = f"; {rest} more in {data.decoded.folder / 'faults.json'}" if rest > 0 else ""
    return f"left out {len(found)} of {len(data.tree.images)} files ({some}{more})"
