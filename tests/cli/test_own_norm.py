"""A norm of the user's own beside ours: module.Class is a choice of norm, with its class's options."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench.cli.hydra import compose
from normbench.errors import UserError
from normbench.settings.parse import parse

SOURCE = """
from normbench.norms import PlaneNorm, pool, standardize

class PairNorm(PlaneNorm):
    def __init__(self, channels, *, activation="none", images=None, size: int = 2):
        super().__init__(channels, activation=activation, images=images)
        self.size = size

    def mix(self, moments):
        return standardize(pool(moments, channels=self.size), eps=1e-5)
"""


def test_a_dotted_name_is_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("beside_ours.py").write_text(SOURCE)
    norm = parse(compose(["norm=beside_ours.PairNorm", "norm.size=4"])).norm
    assert (norm.name, norm.label) == ("custom", "PairNorm")
    assert norm.options == {"target": "beside_ours.PairNorm", "size": 4}
    assert parse(compose(["norm=beside_ours.PairNorm"])).norm.options["size"] == 2
    for words in (["norm=beside_ours.PairNom"], ["norm=no_such_file.PairNorm"]):
        with pytest.raises(UserError, match="cannot be imported"):
            compose(words)
    with pytest.raises(UserError, match=r"norm\.sise"):
        compose(["norm=beside_ours.PairNorm", "norm.sise=4"])
