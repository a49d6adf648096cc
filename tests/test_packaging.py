"""The wheel, installed where no checkout is, works and holds all that it needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import normbench

CHECKOUT = Path(normbench.__file__).parent.parent
PARTS = ("pyproject.toml", "README.md", "LICENSE", "normbench", "conf")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHECKOUT / "pyproject.toml").is_file(), reason="not in a checkout"),
    pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip"),
]


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in PARTS:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, source / name, ignore=unwanted)
        else:
            shutil.copy(CHECKOUT / name, source)
    here = importlib.util.find_spec("setuptools") is not None
    isolation = ["--no-build-isolation"] if here else []
    pip("wheel", str(source), "--no-deps", *isolation, "--wheel-dir", str(out))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip("install", str(wheel), "--no-deps", "--no-compile", "--target", str(target))
    return target


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    """Python with the installed package before any other."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_wheel_holds_every_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"normbench/py.typed"}
    for path in (CHECKOUT / "normbench").rglob("*"):
        name = path.relative_to(CHECKOUT).as_posix()
        code = path.suffix == ".py" and not name.startswith("normbench/cli/launcher/")
        if code or path.suffix in (".webp", ".csv", ".html"):
            wanted.add(name)
    for path in (CHECKOUT / "conf").rglob("*.yaml"):
        wanted.add(f"normbench/conf/{path.relative_to(CHECKOUT / 'conf').as_posix()}")
    assert {"normbench/data/embedded/train.webp", "normbench/conf/train.yaml"} <= wanted
    assert wanted - held == set()
    assert "hydra_plugins/normbench/__init__.py" in held


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    for name in zipfile.ZipFile(wheel).namelist():
        top = name.split("/")[0]
        assert top in ("normbench", "hydra_plugins") or top.endswith(".dist-info"), name
        assert not name.endswith((".pyc", ".so", ".md")), name
    assert wheel.name.endswith("-py3-none-any.whl")


def test_it_is_the_installed_one(installed: Path, tmp_path: Path) -> None:
    words = "import normbench, normbench.conf; print(normbench.__file__, normbench.conf.__file__)"
    for file in run(installed, tmp_path, "-c", words).split():
        assert Path(file).is_relative_to(installed)


def test_commands(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "-m", "normbench", "list", "norms")
    assert "Filter Response Normalization" in listed
    shown = run(installed, tmp_path, "-m", "normbench", "train", "norm=gn", "--cfg", "job")
    assert yaml.safe_load(shown)["norm"]["name"] == "gn"
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_images(installed: Path, tmp_path: Path) -> None:
    words = (
        "from normbench.data import load_dataset\n"
        "data = load_dataset('cifar10_5k')\n"
        "print(*data.train.pixels.shape, *data.test.pixels.shape)\n"
    )
    shapes = run(installed, tmp_path, "-c", words).split()
    assert shapes == ["5000", "3", "32", "32", "2000", "3", "32", "32"]


def test_hydra_finds_the_launcher(installed: Path, tmp_path: Path) -> None:
    words = (
        "from hydra.core.plugins import Plugins\n"
        "from hydra.plugins.launcher import Launcher\n"
        "print(*(f'{c.__module__}.{c.__name__}' for c in Plugins.instance().discover(Launcher)))\n"
    )
    assert "hydra_plugins.normbench.LocalLauncher" in run(installed, tmp_path, "-c", words).split()
