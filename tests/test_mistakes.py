"""`mistakes.csv`: wrong command lines, each with its exit code and the line that is printed about it.

`…` in the column `says` stands for anything. No line trains, measures, starts a process, opens a
connection or leaves a file behind.
"""

from __future__ import annotations

import csv
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from normbench.bench import growth, layers, step
from normbench.cli import hydra
from normbench.cli import main as cli
from normbench.cli.jobs import Grid
from normbench.training import run as training
from tests.cases import each

with (Path(__file__).parent / "mistakes.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
KINDS = ("train", "sweep", "report", "bench", "evaluate", "fetch", "list")
COMMANDS = [*KINDS, "other"]


def of(command: str) -> list[dict[str, str]]:
    """The rows of a command; other: those of none."""
    firsts = [(row, row["typed"].split(" ")[0]) for row in ROWS]
    return [row for row, first in firsts if (first if first in KINDS else "other") == command]


def stays_out(*_: Any, **__: Any) -> None:
    raise AssertionError("a mistake went as far as to train, to measure or to fetch")


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder; what would do something fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NORMBENCH_NOTHING", raising=False)
    monkeypatch.setattr(sys, "argv", ["normbench"])
    for module, name in (
        (training, "train"),
        (training, "begin"),
        (layers, "measure"),
        (step, "measure"),
        (growth, "measure"),
        (subprocess.Popen, "__init__"),
        (socket.socket, "connect"),
    ):
        monkeypatch.setattr(module, name, stays_out)


@pytest.fixture
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` composes as a sweep does: the same keys once, other values put in their place."""
    grid = Grid(hydra.configuration)

    def compose(words: Sequence[str]) -> dict[str, Any]:
        return grid.data(tuple(words))

    monkeypatch.setattr(hydra, "compose", compose)


def test_the_table_is_long_and_says_each_line_once() -> None:
    typed = [row["typed"] for row in ROWS]
    assert len(set(typed)) == len(typed) >= 300
    assert all(len(row["says"]) > 10 for row in ROWS)


@pytest.mark.usefixtures("composed_once")
@each("command", COMMANDS)
def test_a_wrong_line_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    wrong = []
    for row in of(command):
        words = shlex.split(row["typed"])
        code = cli.main(words)
        said = capsys.readouterr()
        told = " ".join(words)
        lines = said.err.splitlines()
        many = {"-m", "sweep"} & set(words) and len(lines) > 1  # a line for each wrong cell
        pattern = ".*".join(map(re.escape, row["says"].split("…")))
        good = code == int(row["code"]) and (many or (len(lines) == 1 and not said.out))
        if not good or not re.fullmatch("normbench: " + pattern, lines[0]):
            wrong.append(f"{told}\n  {code} {said.err}")
        elif left := list(tmp_path.iterdir()):
            wrong.append(f"{told}\n  left {left}")
    GlobalHydra.instance().clear()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("typed", ["train norm=fnr", "sweep axes=5", "report nowhere"])
def test_as_a_shell_sees_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str) -> None:
    monkeypatch.undo()
    command = [sys.executable, "-m", "normbench", *typed.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    (row,) = (row for row in ROWS if row["typed"] == typed)
    pattern = ".*".join(map(re.escape, row["says"].split("…")))
    assert (done.returncode, done.stdout) == (int(row["code"]), "")
    assert re.fullmatch(f"normbench: {pattern}\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


FILES = {  # a wrong file in a folder of one's own: path, text, what is typed, what is said
    "norm/x.yaml": ("name: [", "train norm=x", "cannot be read"),
    "norm/y.yaml": ("- bn", "train norm=y", "holds no key: value"),
    "norm/bn.yaml": ("name: bn", "train norm=bn", "normbench has a norm=bn"),
    "model/z.yaml": ("name: resnet\ndepth: 20", "train model=z", "say label: z"),
    "model/deep.yaml": ("name: resnet\nlabel: deep\ndepth: 99999998", "train model=deep", "2,000"),
    "model/up.yaml": ("name: resnet\nlabel: ../up\ndepth: 8", "train model=up", "'../up': must be"),
    "norm/odd.yaml": ("name: bn\nlabel: odd\neps: .nan", "train norm=odd", "finite number"),
    "experiment/e.yaml": (
        "# @package _global_\naxes: 5\npoints: []\nreport: {}\nstudy: e",
        "sweep experiment=e",
        "axes",
    ),
}


@each("path", FILES)
def test_a_wrong_file_of_ones_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, path: str
) -> None:
    text, typed, says = FILES[path]
    file = tmp_path / path.replace("/", "-").removesuffix(".yaml") / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    GlobalHydra.instance().clear()
    code = cli.main([*typed.split(), f"conf_dir={file.parent.parent}"])
    GlobalHydra.instance().clear()
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert says in said.err
