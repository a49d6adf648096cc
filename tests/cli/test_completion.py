"""Completion: the words that a line can go on with, and the scripts of the shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from normbench.cli.completion import SCRIPTS, candidates
from normbench.cli.main import COMMANDS

LINES = {  # what is typed: what it can become
    "normbench ": list(COMMANDS),
    "normbench tr": ["train"],
    "normbench train norm=fr": ["norm=frn"],
    "normbench train -m norm=bn,fr": ["norm=bn,frn"],
    "normbench sweep experiment=quic": ["experiment=quick"],
    "normbench train acc": ["accumulate="],
    "normbench list nor": ["norms"],
    "normbench completion f": ["fish"],
    "normbench train lr=": [],
    "normbench frobnicate ": [],
}


def test_what_a_line_can_become() -> None:
    for line, wanted in LINES.items():
        assert candidates(line) == wanted, line


def test_ones_own_choices(tmp_path: Path) -> None:
    (tmp_path / "norm").mkdir()
    (tmp_path / "norm" / "mine.yaml").write_text("{name: gn, label: mine}")
    line = f"normbench train conf_dir={tmp_path} norm=mi"
    assert candidates(line) == ["norm=mine"]
    assert candidates("normbench train norm=mi") == []


def test_scripts(normbench: Callable[..., Any]) -> None:
    for shell, script in SCRIPTS.items():
        assert normbench("completion", shell).out == script
        if shutil.which(shell):
            subprocess.run([shell, "-n"], input=script, text=True, check=True)
    for words in ((), ("tcsh",), ("bash", "zsh")):
        assert normbench("completion", *words).code == 2


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_in_bash(tmp_path: Path) -> None:
    """As bash calls it: = is a break between words there, and only what follows it is replaced."""
    (tmp_path / "normbench").write_text(f'#!/bin/sh\nexec {sys.executable} -m normbench "$@"\n')
    (tmp_path / "normbench").chmod(0o755)
    for typed, wanted in {"normbench tra": "train", "normbench train norm=fr": "frn"}.items():
        script = (
            f"{SCRIPTS['bash']}PATH={tmp_path}:$PATH; COMP_LINE='{typed}'; COMP_POINT={len(typed)};"
            ' _normbench; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [wanted], done.stderr


def test_it_is_quick() -> None:
    """Nothing slow is imported."""
    words = "from normbench.cli.completion import main; main(['words', 'normbench train norm='])"
    script = f"import sys\n{words}\nprint('|', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"torch", "hydra", "pandas", "rich"} & set(done.stdout.rpartition("|")[2].split())
