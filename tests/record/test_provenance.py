"""Where a run comes from: the command, the machine, the user's own commit, the packages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from normbench.record import provenance
from normbench.record.provenance import commit_of, origin, packages, typed


def test_what_is_typed_can_be_typed_again() -> None:
    assert typed(["/a/bin/normbench", "train", "norm=frn"]) == "normbench train norm=frn"
    assert typed(["/a/normbench/__main__.py", "list"]) == "normbench list"
    assert typed(["mine.py", "two words"]) == "mine.py 'two words'"
    assert typed([]) == ""


def test_packages_are_those_that_are_installed() -> None:
    found = packages()
    assert found["torch"] == version("torch")
    assert found["hydra-core"] == version("hydra-core")
    assert list(found) == sorted(found)


def test_the_commit_of_ones_own(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "my_norms.py").write_text("a = 1")
    assert commit_of(tmp_path) is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = commit_of(tmp_path)
    assert clean is not None
    assert git("rev-parse", "HEAD").startswith(clean)
    (tmp_path / "my_norms.py").write_text("a = 2")
    assert commit_of(tmp_path) == f"{clean}+"
    assert commit_of(tmp_path, "my_norms.py") == f"{clean}+"
    assert commit_of(tmp_path, "not_there.py") is None


@pytest.mark.usefixtures("tiny")
def test_the_record_has_it(normbench: Callable[..., Any], tmp_path: Path) -> None:
    words = ("train", "norm=bn", "batch=4", "workers=4", "epochs=1", "device=cpu")
    assert normbench(*words).code == 0
    record = json.loads(next(tmp_path.rglob("record.json")).read_text())
    assert record["origin"]["command"] == f"normbench {' '.join(words)}"
    assert record["origin"]["folder"] == str(tmp_path)
    assert record["origin"]["host"] == origin()["host"]
    assert record["packages"] == packages()


def test_a_machine_that_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(provenance.COMMAND, raising=False)
    monkeypatch.setattr("sys.argv", ["study.py"])
    assert origin()["commit"] is None
    assert origin()["command"] == "study.py"
    assert provenance.processor()
