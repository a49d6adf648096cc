"""Datasets: where they come from, their pixels on the device, and augmentation.

The names below that need torch are imported when first used, so that `normbench fetch` starts
without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from normbench.data.info import dataset_info
from normbench.data.prepare import load_dataset, prepare

if TYPE_CHECKING:
    from normbench.data.augment import Batcher, EpochPlan, draw_plan, normalize, stream
    from normbench.data.feed import EpochBatches, Feed
    from normbench.data.packed import Dataset, Split
    from normbench.data.photos.dataset import FolderDataset

__all__ = [
    "Batcher",
    "Dataset",
    "EpochBatches",
    "EpochPlan",
    "Feed",
    "FolderDataset",
    "Split",
    "dataset_info",
    "draw_plan",
    "load_dataset",
    "normalize",
    "prepare",
    "stream",
]

_HOMES = {
    "augment": ("Batcher", "EpochPlan", "draw_plan", "normalize", "stream"),
    "feed": ("EpochBatches", "Feed"),
    "packed": ("Dataset", "Split"),
    "photos.dataset": ("FolderDataset",),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"normbench.data.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
