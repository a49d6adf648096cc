"""The commands, from what is typed to what is printed and left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from normbench import __version__
from normbench.cli.main import COMMANDS
from normbench.data.download.catalogue import DATASETS
from normbench.training import step

Command = Callable[..., Any]
RUN = ("train", "norm=frn", "batch=2", "workers=8", "epochs=1", "device=cpu")


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("record.json"))]


@pytest.mark.usefixtures("tiny")
def test_train(normbench: Command, tmp_path: Path) -> None:
    done = normbench(*RUN)
    assert (done.code, done.err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    (record,) = records(tmp_path)
    assert record["status"] == "ok"
    assert (record["settings"]["batch"], record["settings"]["workers"]) == (2, 8)
    folder = next(tmp_path.rglob("record.json")).parent.relative_to(tmp_path)
    assert str(folder) in done.out
    assert str(folder).startswith("results/runs/single/resnet8-cifar10_5k/frn-b2x8-s0-")

    again = normbench(*RUN)
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith("already done")


@pytest.mark.usefixtures("tiny")
def test_where_it_is_written(normbench: Command, tmp_path: Path) -> None:
    assert normbench(*RUN, "study=mine", f"results={tmp_path / 'out'}").code == 0
    assert len(records(tmp_path / "out" / "runs" / "mine")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("tiny")
def test_a_failure_is_not_a_success(
    normbench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from normbench.errors import FailedError

    def fail(*_: Any) -> None:
        raise FailedError("it broke\nin two lines")

    monkeypatch.setattr(step, "project", fail)
    done = normbench(*RUN)
    assert done.code == 1
    assert done.err == "normbench: it broke in two lines\n"
    assert records(tmp_path)[0]["status"] == "failed"


@pytest.mark.usefixtures("tiny")
def test_interrupted(normbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, "project", interrupt)
    done = normbench(*RUN)
    assert done.code == 130
    assert done.err.count("\n") == 1
    monkeypatch.undo()


@pytest.mark.usefixtures("tiny")
def test_cfg_job_shows_and_trains_nothing(normbench: Command, tmp_path: Path) -> None:
    done = normbench("train", "norm=gn", "batch=3", "--cfg", "job")
    assert done.code == 0
    shown = yaml.safe_load(done.out)
    assert (shown["norm"]["name"], shown["batch"]) == ("gn", 3)
    assert list(tmp_path.iterdir()) == []


def settings_of_the_file() -> dict[str, Any]:
    text = (files("normbench.conf") / "train.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_help_says_every_setting(normbench: Command) -> None:
    for flag in ("--help", "-h"):
        done = normbench("train", flag)
        assert (done.code, done.err) == (0, "")
        lines = done.out.splitlines()
        for key in settings_of_the_file():
            if key not in ("defaults", "hydra"):
                assert any(line.startswith(f"{key}:") for line in lines), key
        for group in ("norm", "model", "dataset"):
            (line,) = (line for line in lines if line.startswith(f"  {group} "))
            for entry in (files("normbench.conf") / group).iterdir():
                if entry.name.endswith(".yaml"):
                    assert entry.name.removesuffix(".yaml") in line


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_every_command(normbench: Command, arguments: tuple[str, ...]) -> None:
    done = normbench(*arguments)
    assert (done.code, done.err) == (0, "")
    for command in COMMANDS:
        assert f"normbench {command}" in done.out


@pytest.mark.parametrize("command", [*COMMANDS, "report claims", "bench layers", "train -m"])
def test_every_command_has_help(normbench: Command, command: str) -> None:
    for flag in ("--help", "-h"):
        done = normbench(*command.split(), flag)
        assert (done.code, done.err) == (0, "")
        assert f"normbench {command}" in done.out


def test_help_names_every_dataset_that_can_be_fetched(normbench: Command) -> None:
    words = normbench("fetch", "--help").out.replace(",", " ").replace(";", " ").split()
    assert set(DATASETS) <= set(words)


def test_version(normbench: Command) -> None:
    assert normbench("--version").out == f"normbench {__version__}\n"


def loaded(words: str) -> set[str]:
    """Which of the slow modules a fresh interpreter has after these words."""
    script = f"import sys\n{words}\nprint('|', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    slow = {"torch", "hydra", "pandas", "matplotlib"}
    slow |= {"argparse", "pydantic"} if "help" in words else set()
    return set(done.stdout.rpartition("|")[2].split()) & slow


@pytest.mark.parametrize(
    "words",
    [
        "import normbench",
        "import normbench.cli.main",
        "from normbench.cli.main import main; main(['list'])",
        "from normbench.cli.main import main; main(['--version'])",
        "from normbench.cli.main import main; main(['train', '--help'])",
        "from normbench.cli.main import main; main(['fetch', '--verify', 'cifar10_5k'])",
        "from normbench.cli.main import *\nfor c in COMMANDS: main([c, '--help'])",
        "from normbench.cli.main import main; main(['report', 'claims', '--help'])",
        "from normbench.cli.main import main; main(['tarin'])",
    ],
)
def test_what_is_quick_loads_nothing_slow(words: str) -> None:
    assert loaded(words) == set()


def test_the_two_functions_of_the_package() -> None:
    import normbench

    assert normbench.create_norm("bn", 4).channels == 4
    assert callable(normbench.convert_norms)
    with pytest.raises(AttributeError, match="no attribute 'create_nrom'"):
        _ = normbench.create_nrom
