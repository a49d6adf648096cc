"""Which datasets there are, and what is known of one before an image of it is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from normbench.data import sources
from normbench.data.catalogue import entry, of_archive
from normbench.data.options import Options, options
from normbench.data.tree import Tree, read_tree
from normbench.errors import UserError
from normbench.settings.identity import OWN_FOLDERS

OWN = dict.fromkeys(OWN_FOLDERS) | {"imagenet": 1000, "imagenet100": 100}  # and their classes
FOLDERS = (*OWN, "imagenette", "imagewoof")


class Info(NamedTuple):
    """Counts, and the pixels a side that the network sees."""

    classes: int
    train_images: int
    test_images: int
    size: int


def dataset_info(name: str, given: Mapping[str, Any] | None = None) -> Info:
    """What is known of the dataset `name` with the options `given`, without an image decoded.

    Of a user's own folder its names are read, of others nothing. UserError for what cannot be.
    """
    if name not in FOLDERS:
        known = entry(name)
        return Info(known.classes, known.train_images, known.test_images, known.image_size)
    chosen = options(given or {})
    if name not in OWN:
        known = entry(of_archive(name, chosen.archive))
        return Info(known.classes, known.train_images, known.test_images, chosen.size)
    tree = tree_of(name, chosen)
    return Info(len(tree.classes), tree.train, len(tree.images) - tree.train, chosen.size)


def tree_of(name: str, chosen: Options) -> Tree:
    """The folder of the dataset; that of imagenette and imagewoof is downloaded where it is not."""
    if name in OWN:
        root, classes = own_root(name, chosen), OWN[name]
    else:
        known = entry(of_archive(name, chosen.archive))
        at = Path(chosen.root) if chosen.root else None
        root = str(sources.ensure(known.name, root=at, source=chosen.source))
        classes = known.classes
    only = synsets() if name == "imagenet100" else None
    tree = read_tree(root, only, chosen.val_fraction, chosen.split_seed)
    if classes not in (None, len(tree.classes)):
        raise UserError(
            f"dataset.root={chosen.root} has {len(tree.classes)} classes, {name} has {classes};"
            " use dataset=folder for other images"
        )
    return tree


def own_root(name: str, chosen: Options) -> str:
    """`dataset.root`, which a dataset that is not downloaded needs."""
    if not chosen.root:
        raise UserError(
            f"dataset={name} needs dataset.root=…, a folder with images in train/CLASS/ and"
            " val/CLASS/, or a tar of one"
        )
    return chosen.root


def synsets() -> tuple[str, ...]:
    """The classes of ImageNet-100: Tian et al. 2020, arXiv 1906.05849, the authors' imagenet100.txt."""
    path = Path(__file__).parent / "embedded" / "imagenet100.txt"
    return tuple(path.read_text(encoding="ascii").split())


def prepare(name: str, given: Mapping[str, Any]) -> None:
    """Has the dataset on disk, its images decoded where they are kept, before a run wants it."""
    if name not in FOLDERS:
        root, source = given.get("root"), given.get("source")
        sources.ensure(name, root=Path(root) if root else None, source=source)
        return
    from normbench.data.folder import open_folder  # NumPy and Pillow, which not every command needs

    open_folder(name, given)
