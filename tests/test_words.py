"""The one reader of a command line: what it takes, and the line for each word that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench.errors import UserError
from normbench.words import Words, count, one_of, several

CLOSED = Words(
    "show",
    keys={
        "metric": one_of(("final", "best")),
        "formats": several(one_of(("md", "csv")), or_none=True),
        "jobs": several(count),
        "out": Path,
        "where.KEY": str,
    },
    flags=["--dry-run"],
)
LONE = Words("list", alone=one_of(("norms", "models")))
OPEN = Words(
    "train",
    keys={"rounds": count},
    flags=["-m", "--multirun", "--cfg"],
    valued=["--cfg"],
    settings=True,
    meant=lambda word: "norm=bn" if word == "bn" else "",
)


def test_keys_flags_and_what_stands_alone() -> None:
    given = CLOSED.read(
        ["jobs=1,2", "--dry-run", "formats=", "out=a=b", "where.norm.eps=1", "where.x=", "jobs=3"]
    )
    assert given.values == {
        "jobs": (3,), "formats": (), "out": Path("a=b"), "where.norm.eps": "1", "where.x": "",
    }  # fmt: skip
    assert given.below("where") == {"norm.eps": "1", "x": ""}
    assert given.flags == {"--dry-run"}
    assert LONE.read(["models", "norms"]).alone == ["models", "norms"]
    assert CLOSED.read([]).values == {}


def test_settings_are_handed_on_as_they_are_typed() -> None:
    words = [
        "norm=bn,gn",
        "+norm.label=a",
        "~batch",
        "lr=[1",
        "rounds=2",
        "--cfg",
        "job",
        "-m",
        "--cfg=all",
    ]
    given = OPEN.read(words)
    assert given.settings == ["norm=bn,gn", "+norm.label=a", "~batch", "lr=[1"]
    assert (given.values, given.flags) == ({"rounds": 2}, {"--cfg", "-m"})
    assert given.alone == []


@pytest.mark.parametrize(
    ("words", "typed", "line"),
    [
        (CLOSED, "metrik=best", "normbench show has no metrik=, did you mean 'metric'?"),
        (
            CLOSED,
            "x=1",
            "normbench show has no x=; there are metric, formats, jobs, out, where.KEY",
        ),
        (CLOSED, "wher.norm=1", "normbench show has no wher.norm=, did you mean 'where.KEY'?"),
        (CLOSED, "metric=bets", "metric=bets: must be among final, best, did you mean 'best'?"),
        (CLOSED, "metric=", "metric=: must be among final, best"),
        (CLOSED, "formats=md,pdf", "formats=md,pdf: 'pdf' must be among md, csv"),
        (CLOSED, "jobs=", "jobs=: must be a whole number from 1 to 1,000,000"),
        (CLOSED, "jobs=1,0", "jobs=1,0: '0' must be a whole number from 1 to 1,000,000"),
        (CLOSED, "jobs=2.5", "jobs=2.5: must be a whole number from 1 to 1,000,000"),
        (CLOSED, "metric", "'metric' is not key=value, did you mean metric=…?"),
        (CLOSED, "results", "'results' is not key=value; see normbench show --help"),
        (CLOSED, "--dry", "normbench show has no --dry, did you mean '--dry-run'?"),
        (CLOSED, "--out", "normbench show has no --out, did you mean out=…?"),
        (CLOSED, "--out=a", "normbench show has no --out=a, did you mean out=a?"),
        (CLOSED, "--verbose", "normbench show has no --verbose; there is --dry-run"),
        (LONE, "--all", "normbench list has no --all; there are no flags"),
        (LONE, "a=b", "normbench list has no a=; it takes no key=value"),
        (
            LONE,
            "norms nroms",
            "normbench list: 'nroms' must be among norms, models, did you mean 'norms'?",
        ),
        (OPEN, "bn batch=2", "'bn' is not key=value, did you mean norm=bn?"),
        (OPEN, "-m bn", "'bn' is not key=value, did you mean norm=bn?"),
        (OPEN, "--cfg job bn", "'bn' is not key=value, did you mean norm=bn?"),
        (OPEN, "--epochs=3", "normbench train has no --epochs=3, did you mean epochs=3?"),
        (OPEN, "--epochs", "normbench train has no --epochs; settings are key=value"),
        (OPEN, "--multirnu", "normbench train has no --multirnu, did you mean '--multirun'?"),
        (OPEN, "rounds=x lr=1", "rounds=x: must be a whole number from 1 to 1,000,000"),
    ],
)
def test_a_wrong_word_is_one_line(words: Words, typed: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        words.read(typed.split())
    assert str(error.value) == line
