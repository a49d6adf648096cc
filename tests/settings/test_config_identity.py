"""What names a cell: all that decides its result, and nothing else."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from normbench.errors import UserError
from normbench.settings.identity import NO_RESULT, canonical, identity
from normbench.settings.parse import parse
from normbench.settings.schema import Evaluate, Settings

Cell = Callable[..., Settings]

NOT_DECISIVE: dict[str, Any] = {
    "protocol": "fixed",
    "accumulate": 2,
    "recompute": ["stages.*"],
    "cuda_graph": False,
    "ops": "eager",
    "device": "auto",
    "study": "another",
    "results": "elsewhere",
    "histograms": True,
}
DECISIVE: dict[str, Any] = {
    "norm": {"name": "gn", "groups": 4},
    "model": {"name": "resnet", "label": "resnet20", "depth": 20},
    "dataset": {"name": "cifar100"},
    "batch": 8,
    "workers": 2,
    "activation": "prelu",
    "norm_stages": [1],
    "epochs": 3,
    "seed": 7,
    "lr": 0.2,
    "lr_batch": 64,
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 1e-4,
    "norm_weight_decay": 0.0,
    "warmup": 0.2,
    "schedule": "step",
    "milestones": [0.3],
    "decay": 0.5,
    "label_smoothing": 0.1,
    "augment": False,
    "evaluate": {"statistics": "precise", "batches": 50},
    "precision": "bf16",
    "channels_last": False,
    "channel_means": True,
    "weight_standardization": True,
}


def test_every_field_is_classified() -> None:
    """A new setting must say here whether it decides the result."""
    assert {field.name for field in dataclasses.fields(Settings)} == {*DECISIVE, *NOT_DECISIVE}
    assert set(NO_RESULT) == set(NOT_DECISIVE)


@pytest.mark.parametrize("key", DECISIVE)
def test_decisive(cell: Cell, key: str) -> None:
    assert identity(cell(**{key: DECISIVE[key]})) != identity(cell())


@pytest.mark.parametrize("key", NOT_DECISIVE)
def test_not_decisive(cell: Cell, key: str) -> None:
    changed = dataclasses.replace(cell(), **{key: NOT_DECISIVE[key]})
    assert changed != cell()
    assert identity(changed) == identity(cell())


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        (("norm=frn", "batch=2"), "83c64a1a"),
        (("norm=bn", "batch=8", "protocol=fixed"), "aad1547a"),
    ],
)
def test_a_cell_keeps_its_identity(
    composed: Callable[..., dict[str, Any]], overrides: tuple[str, ...], known: str
) -> None:
    """The names of folders that people have: a setting that comes later must not change them."""
    assert identity(parse(composed(*overrides))) == known


def test_all_differ_from_each_other(cell: Cell) -> None:
    hashes = [identity(cell(**{key: value})) for key, value in DECISIVE.items()]
    assert len(set(hashes)) == len(hashes)


def test_options_decide(cell: Cell) -> None:
    one, two = ({"name": "gn", "groups": groups} for groups in (4, 8))
    assert identity(cell(norm=one)) != identity(cell(norm=two))


def test_where_the_data_lies_does_not_decide(cell: Cell) -> None:
    here = {"name": "cifar10", "root": None, "source": None}
    there = {"name": "cifar10", "root": "/data", "source": "http://mirror"}
    assert identity(cell(dataset=here)) == identity(cell(dataset=there))


def folder(cell: Cell, root: Path, **options: Any) -> Settings:
    return cell(dataset={"name": "folder", "root": str(root), "size": 64, **options})


def test_a_folder_is_known_by_its_content(cell: Cell, tmp_path: Path) -> None:
    """Its own name, and the names and sizes of its images, decide; where it lies does not."""
    for name in ("here", "there/here", "other"):
        place = tmp_path / name / "train" / "a"
        place.mkdir(parents=True)
        (place / "0.jpg").write_bytes(b"123" if name == "other" else b"12")
    here = folder(cell, tmp_path / "here")
    assert here.dataset.label == "here"
    assert "/resnet8-here/" in here.folder.as_posix()
    assert identity(here) == identity(folder(cell, tmp_path / "there" / "here"))
    assert identity(here) != identity(folder(cell, tmp_path / "other"))
    assert identity(here) != identity(folder(cell, tmp_path / "here", cache=False))
    assert identity(folder(cell, tmp_path / "nowhere")) != identity(here)


def test_a_tar_has_its_own_name(cell: Cell, tmp_path: Path) -> None:
    assert folder(cell, tmp_path / "photos.tar").dataset.label == "photos"
    assert folder(cell, Path(".")).dataset.label == Path.cwd().name


def test_identity_leaves_the_settings_alone(cell: Cell) -> None:
    settings = cell(dataset={"name": "cifar10", "root": "/data"})
    identity(settings)
    assert settings.dataset.options == {"root": "/data"}


def test_order_of_options_does_not_decide(cell: Cell) -> None:
    one = {"name": "bn", "eps": 1e-5, "momentum": 0.1}
    two = {"momentum": 0.1, "eps": 1e-5, "name": "bn"}
    assert identity(cell(norm=one)) == identity(cell(norm=two))


def test_folder(cell: Cell) -> None:
    settings = cell(norm="frn", batch=2, workers=8, seed=3, study="mine", results="out")
    *above, last = settings.folder.parts
    assert Path(*above) == Path("out/runs/mine/resnet8-cifar10_5k")
    assert re.fullmatch(r"frn-b2x8-s3-[0-9a-f]{8}", last)
    assert last.endswith(identity(settings))


def test_the_protocols_share_a_cell(cell: Cell) -> None:
    """The same batch and workers are the same training, whatever led to them."""
    scaled = cell(protocol="scaled", batch=4, workers=8)
    fixed = cell(protocol="fixed", batch=4, workers=None, sgd_batch=32)
    assert scaled.folder == fixed.folder


OWN = """
from normbench.norms import PlaneNorm, pool, standardize

class PerPlane(PlaneNorm):
    per_image = True

    def mix(self, moments):
        return standardize(moments, 1e-5)

class PerWorker(PerPlane):
    def mix(self, moments):
        return standardize(pool(moments, images=self.images), 1e-5)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A file with two norms in the working folder; its module's name."""
    (tmp_path / "own_of_identity.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield "own_of_identity"
    sys.modules.pop("own_of_identity", None)


def test_a_norm_of_ones_own_says_itself_that_it_is_per_image(cell: Cell, own: str) -> None:
    """A class derived from one that does says it anew."""
    norms = [{"name": "custom", "target": f"{own}.{name}"} for name in ("PerPlane", "PerWorker")]
    fixed: dict[str, Any] = {"protocol": "fixed", "sgd_batch": 32, "workers": None}
    for norm, folders in zip(norms, (1, 3), strict=True):
        cells = [canonical(cell(norm=norm, **fixed, batch=b)) for b in (1, 4, 32)]
        assert len({c.folder for c in cells}) == folders


def test_a_norm_of_ones_own_that_cannot_be_imported(cell: Cell) -> None:
    norm = {"name": "custom", "target": "no_such_file.Norm"}
    with pytest.raises(UserError, match=r"'no_such_file\.Norm' cannot be imported"):
        canonical(cell(norm=norm, protocol="fixed", workers=None))


def test_canonical_joins_the_batches_of_a_norm_that_is_per_image(cell: Cell) -> None:
    for norm in ("frn", {"name": "sn", "using": ["in", "ln"]}):
        cells = [
            canonical(cell(norm=norm, protocol="fixed", batch=b, workers=None, sgd_batch=32))
            for b in (1, 4, 32)
        ]
        assert len({c.folder for c in cells}) == 1
        assert cells[0].sgd_batch == 32


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "bn", "protocol": "fixed", "sgd_batch": 32, "workers": None},
        {"norm": {"name": "sn", "using": ["in", "bn"]}, "protocol": "fixed", "workers": None},
        {"norm": "frn"},
        {"norm": "frn", "protocol": "fixed", "workers": None, "norm_stages": [1]},
    ],
)
def test_canonical_leaves_others_alone(cell: Cell, changes: dict[str, Any]) -> None:
    assert canonical(cell(**changes)) == cell(**changes)


def test_canonical_drops_precise_statistics_where_there_are_none(cell: Cell) -> None:
    fixed: dict[str, Any] = {"norm": "gn", "protocol": "fixed", "workers": None}
    precise = canonical(cell(**fixed, evaluate={"statistics": "precise", "batches": 3}))
    assert precise == canonical(cell(**fixed))
    assert precise.evaluate == Evaluate("running")
