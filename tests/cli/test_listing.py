"""`normbench list` shows every file of conf/ with its source."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from normbench.cli.listing import GROUPS, entries

Command = Callable[..., Any]
OWN = {("norm", "none"), ("norm", "custom")}  # of nobody's paper


def names(group: str) -> set[str]:
    folder = files("normbench.conf") / group
    return {e.name.removesuffix(".yaml") for e in folder.iterdir() if e.name.endswith(".yaml")}


@pytest.mark.parametrize("group", GROUPS.values())
def test_every_file_with_its_paper(group: str) -> None:
    found = entries(group)
    others = {"torchvision/NAME", "timm/NAME"} if group == "model" else set()
    assert set(found) == names(group) | others
    assert names(group)
    for name, (what, source) in found.items():
        assert what, name
        assert not what.startswith("#")
        if (group, name) not in OWN:
            assert re.search(r"\b(19|20)\d\d\b|http|\b\d{4}\.\d{5}\b", source), name


@pytest.mark.parametrize("word", GROUPS)
def test_a_table_for_each_group(
    normbench: Command, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    done = normbench("list", word)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    for name, (what, source) in entries(GROUPS[word]).items():
        (line,) = (line for line in lines if line.split(" ")[0] == name)
        assert what in line
        assert source in line


def test_all_of_them(normbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out = normbench("list").out
    assert out == "".join(normbench("list", word).out for word in GROUPS)


def test_narrow_terminals_lose_nothing(normbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = normbench("list", "norms").out.splitlines()
    assert max(map(len, lines)) <= 60
    assert names("norm") <= {line.split(" ")[0] for line in lines}
