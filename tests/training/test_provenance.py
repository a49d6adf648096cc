"""What a record says of its surroundings."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from normbench.settings.schema import Settings
from normbench.training import provenance
from normbench.training.network import seeded_network

Cell = Callable[..., Settings]
CPU = torch.device("cpu")


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module's file, in a folder of its own."""
    file = tmp_path / "normbench" / "provenance.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(file))
    return file


def test_the_commit_of_a_checkout(module: Path) -> None:
    root = module.parent.parent
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    head = git(root, "rev-parse", "HEAD")
    commit = provenance.git_commit()
    assert commit is not None
    assert head.startswith(commit)
    module.write_text("changed")
    assert provenance.git_commit() == commit + "+"


def test_no_commit_elsewhere(module: Path) -> None:
    assert provenance.git_commit() is None


def test_not_the_commit_of_somebody_elses_repository(module: Path) -> None:
    """normbench installed below another project, whose repository knows nothing of it."""
    root = module.parent.parent
    (root / "theirs").write_text("")
    git(root, "init", "-q")
    git(root, "add", "theirs")
    git(root, "commit", "-qm", "first")
    assert provenance.git_commit() is None


def test_without_git(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git_commit() is None


@pytest.mark.parametrize(
    ("norm", "activation", "names"),
    [
        ("bn", "relu", set()),
        ("bn", "tlu", {"tau"}),
        ("frn", "auto", {"tau"}),
        ("sn", "auto", {"mean_weight", "var_weight"}),
        ("bin", "auto", {"gate"}),
        ("rbn", "auto", {"center_weight", "scale_weight", "scale_bias"}),
        ("bn", "prelu", {"alpha"}),
    ],
)
def test_learned(cell: Cell, norm: str, activation: str, names: set[str]) -> None:
    net = seeded_network(cell(norm=norm, activation=activation), CPU)
    found = provenance.learned(net)
    assert {name for own in found.values() for name in own} == names
    for layer, own in provenance.learned_tensors(net).items():
        for name, tensor in own.items():
            assert not tensor.requires_grad
            assert found[layer][name] == pytest.approx(tensor.tolist(), abs=1e-6)


def test_the_thresholds_of_joints_are_there_too(cell: Cell) -> None:
    """ResNet's activation after an addition belongs to no norm, but learns its τ."""
    found = provenance.learned(seeded_network(cell(norm="frn"), CPU))
    assert sum(layer.endswith("activation") for layer in found) == 3


def test_memory_and_versions() -> None:
    assert 10 < provenance.peak_memory_mib(CPU) < 2**20
    assert provenance.versions()["torch"] == torch.__version__
    assert provenance.device_name(CPU).startswith(f"cpu, {torch.get_num_threads()} threads")
