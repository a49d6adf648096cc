"""What runs without an installation, and without packages that a command does not need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import normbench
from normbench.source_tree import PLACES, Finder

ROOT = Path(normbench.__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not in a checkout")

BARE = """
import sys

class Missing:
    names = {missing!r}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in cls.names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

installed = [f for f in sys.meta_path if "editable" in getattr(f, "__module__", "")]
sys.meta_path[:] = [Missing] + [f for f in sys.meta_path if f not in installed]
"""


def source(
    tmp_path: Path, *arguments: str, missing: tuple[str, ...] = (), ops: str = "auto"
) -> subprocess.CompletedProcess[str]:
    """Python with the source tree on its path, no installed normbench, and without some packages."""
    (tmp_path / "sitecustomize.py").write_text(BARE.format(missing=missing))
    path = os.pathsep.join(map(str, (tmp_path, ROOT)))
    return subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NORMBENCH_OPS": ops},
    )  # fmt: skip


def test_the_places_are_those_of_the_packaging() -> None:
    table = (ROOT / "pyproject.toml").read_text().split("[tool.setuptools.package-dir]")[1]
    said = dict(re.findall(r'^"([\w.]+)" = "([\w/]+)"$', table.split("[tool")[0], re.MULTILINE))
    assert said == PLACES


def test_an_installation_goes_first() -> None:
    """The finder stands behind all others."""
    assert sys.meta_path.index(Finder) >= len(sys.meta_path) - 2


WORDS = """
import normbench, normbench.conf
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from normbench.cli.main import main
print(normbench.conf.__file__)
code = main("train -m norm=gn batch=3 sgd_batch=4 device=cpu".split())
print(code, *(c.__module__ for c in Plugins.instance().discover(Launcher)))
"""


@pytest.mark.slow
def test_configuration_and_launcher_are_found(tmp_path: Path) -> None:
    """A multirun goes through Hydra, our launcher and our sweeper; this one has no valid cell."""
    run = source(tmp_path, "-W", "error", "-c", WORDS)
    file, *_, last = run.stdout.splitlines() or [run.stderr]
    assert Path(file) == ROOT / "conf" / "__init__.py", run.stderr
    code, *plugins = last.split()
    assert code == "2" and "sgd_batch=4 belongs to protocol=fixed" in run.stderr
    assert "hydra_plugins.normbench" in plugins


@pytest.mark.slow
def test_bench_without_matplotlib(tmp_path: Path) -> None:
    words = "bench layers norms=frn shapes=2x3x4x4 layouts=nchw peers= rounds=1 device=cpu"
    words += " backends=eager"
    run = source(tmp_path, "-m", "normbench", *words.split(), missing=("matplotlib",), ops="eager")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "results" / "bench" / "layers-cpu.csv").is_file()
    run = source(tmp_path, "-m", "normbench", "bench", "growth", missing=("matplotlib",))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(
        "normbench: bench growth draws a figure: No module named 'matplotlib'"
    )


WITHOUT_NUMBA = """
import sys, torch
from normbench import create_norm
import normbench.training.run, normbench.bench.command
assert "numba" not in sys.modules and "triton" not in sys.modules
create_norm("frn", 3)(torch.randn(2, 3, 4, 4)).sum().backward()
print("done")
"""


def test_numba_is_for_the_cpu_alone(tmp_path: Path) -> None:
    """What trains is imported without it; on the CPU a norm is computed, and says that it is slow."""
    run = source(tmp_path, "-c", WITHOUT_NUMBA, missing=("numba", "llvmlite"))
    assert run.stdout == "done\n", run.stderr
    assert run.stderr.count("numba cannot compile the kernels (ModuleNotFoundError") == 1
