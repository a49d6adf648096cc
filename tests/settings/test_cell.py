"""Where a cell lies, which settings share one, and that it stays what it was when it was made."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from normbench.errors import UserError
from normbench.settings.cell import cell_of
from normbench.settings.identity import identity
from normbench.settings.parse import parse
from normbench.settings.schema import Evaluate, Settings

Cell = Callable[..., Settings]


def test_folder(cell: Cell) -> None:
    made = cell_of(cell(norm="frn", batch=2, workers=8, seed=3, study="mine", results="out"))
    *above, last = made.folder.parts
    assert Path(*above) == Path("out/runs/mine/resnet8-cifar10_5k")
    assert re.fullmatch(r"frn-b2x8-s3-[0-9a-f]{8}", last)
    assert last.endswith(made.identity)
    assert made.identity == identity(made.settings)


def test_the_protocols_share_a_cell(cell: Cell) -> None:
    """The same batch and workers are the same training, whatever led to them."""
    scaled = cell(protocol="scaled", batch=4, workers=8)
    fixed = cell(protocol="fixed", batch=4, workers=None, sgd_batch=32)
    assert cell_of(scaled).folder == cell_of(fixed).folder


KNOWN = {  # as they stand in the committed results, made by earlier versions
    "84ca975b": "experiment=quick norm=bin batch=2",
    "be693c73": "experiment=bn_inference evaluate.statistics=precise batch=16 epochs=10",
    "ba54365b": "experiment=frn_table3 norm=bn activation=tlu batch=32 epochs=10",
    "9635365b": "experiment=frn_table3 norm=lfrn activation=tlu batch=32 epochs=10 seed=2",
    "c84994ce": "experiment=gn_table3_groups norm=gn norm.groups=1 batch=32 epochs=10",
    "5b37ab3b": "experiment=sn_ratios norm=sn batch=16 workers=1 protocol=scaled sgd_batch=null epochs=20",
}


def test_the_runs_that_people_have_keep_their_identity(
    composed: Callable[..., dict[str, Any]],
) -> None:
    found = {
        cell_of(parse(composed("scale=embedded", *words.split()))).identity: words
        for words in KNOWN.values()
    }
    assert found == KNOWN


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
        cells = [cell_of(cell(norm=norm, **fixed, batch=b)) for b in (1, 4, 32)]
        assert len({c.folder for c in cells}) == folders


def test_a_norm_of_ones_own_that_cannot_be_imported(cell: Cell) -> None:
    norm = {"name": "custom", "target": "no_such_file.Norm"}
    with pytest.raises(UserError, match=r"'no_such_file\.Norm' cannot be imported"):
        cell_of(cell(norm=norm, protocol="fixed", workers=None))


def test_the_batches_of_a_norm_that_is_per_image_share_a_cell(cell: Cell) -> None:
    for norm in ("frn", {"name": "sn", "using": ["in", "ln"]}):
        cells = [
            cell_of(cell(norm=norm, protocol="fixed", batch=b, workers=None, sgd_batch=32))
            for b in (1, 4, 32)
        ]
        assert len({c.folder for c in cells}) == 1
        assert (cells[0].shared, cells[0].settings.sgd_batch) == (True, 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "bn", "protocol": "fixed", "sgd_batch": 32, "workers": None},
        {"norm": {"name": "sn", "using": ["in", "bn"]}, "protocol": "fixed", "workers": None},
        {"norm": "frn"},
        {"norm": "frn", "protocol": "fixed", "workers": None, "norm_stages": [1]},
    ],
)
def test_the_settings_of_others_are_left_alone(cell: Cell, changes: dict[str, Any]) -> None:
    made = cell_of(cell(**changes))
    assert not made.shared
    assert made.settings == cell(**changes)


def test_the_cell_of_a_cells_settings_is_itself(cell: Cell) -> None:
    made = cell_of(cell(norm="gn", protocol="fixed", batch=2, workers=None))
    assert cell_of(made.settings) == made


def test_precise_statistics_are_dropped_where_there_are_none(cell: Cell) -> None:
    fixed: dict[str, Any] = {"norm": "gn", "protocol": "fixed", "workers": None}
    precise = cell_of(cell(**fixed, evaluate={"statistics": "precise", "batches": 3}))
    assert precise == cell_of(cell(**fixed))
    assert precise.settings.evaluate == Evaluate("running")
