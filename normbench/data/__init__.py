"""Datasets: where they come from, their pixels on the device, and augmentation.

The names below that need torch are imported when first used, so that `normbench fetch` starts
without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from normbench.data.info import dataset_info

if TYPE_CHECKING:
    from normbench.data.augment import Batcher, EpochPlan, draw_plan, normalize, stream
    from normbench.data.datasets import Dataset, Split, load_dataset
    from normbench.data.feed import Feed, Shown
    from normbench.data.folder import FolderDataset, open_folder

__all__ = [
    "Batcher",
    "Dataset",
    "EpochPlan",
    "Feed",
    "FolderDataset",
    "Shown",
    "Split",
    "dataset_info",
    "draw_plan",
    "load_dataset",
    "normalize",
    "open_folder",
    "stream",
]

_HOMES = {
    "augment": ("Batcher", "EpochPlan", "draw_plan", "normalize", "stream"),
    "datasets": ("Dataset", "Split", "load_dataset"),
    "feed": ("Feed", "Shown"),
    "folder": ("FolderDataset", "open_folder"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"normbench.data.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
