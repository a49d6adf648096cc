"""The counts of a dataset and the size of its images, without an image decoded and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from normbench.data.domains import without_domains
from normbench.data.download.catalogue import edition_name, find_entry
from normbench.data.held_out import check_validation, without_validation
from normbench.data.photos.options import parse_options
from normbench.data.photos.root import FOLDERS, OWN_CLASSES, tree_of


class Info(NamedTuple):
    """Counts, and the pixels a side that the network sees."""

    classes: int
    train_images: int
    test_images: int
    size: int


def dataset_info(name: str, options: Mapping[str, Any] | None = None) -> Info:
    """The counts and the image size of the dataset `name` with these options.

    The file names of a user's own folder are read; every other dataset is looked up.
    UserError for an unknown name, an option that does not fit, or a folder that is not this dataset.
    """
    own, count = without_validation(options or {})
    info = _info(name, own)
    if not count:
        return info
    check_validation(name, count, info.train_images)
    return info._replace(train_images=info.train_images - count, test_images=count)


def _info(name: str, options: Mapping[str, Any]) -> Info:
    if name not in FOLDERS:
        without_domains(options)
        entry = find_entry(name)
        return Info(entry.classes, entry.train_images, entry.test_images, entry.image_size)
    folder_options = parse_options(options)
    size = folder_options.size
    if name not in OWN_CLASSES:
        entry = find_entry(edition_name(name, folder_options.archive))
        return Info(entry.classes, entry.train_images, entry.test_images, size)
    tree = tree_of(name, folder_options)
    return Info(len(tree.classes), tree.train, len(tree.images) - tree.train, size)
