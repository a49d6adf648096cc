"""`conf_dir=`: choices of the user's own, beside those of conf/, for every command alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from normbench import choices
from normbench.report.frames import load_runs

Command = Callable[..., Any]
NORM = """
from normbench.norms import PlaneNorm, pool, standardize

class Pairs(PlaneNorm):
    per_image = True

    def __init__(self, channels, *, activation="none", images=None, size: int = 2):
        super().__init__(channels, activation=activation, images=images)
        self.size = size

    def mix(self, moments):
        return standardize(pool(moments, channels=self.size), eps=1e-5)
"""
FILES = {
    "norm/fours": """# Pairs of four channels. Mine 2026
        {name: custom, label: fours, target: own_choices.Pairs, size: 4}""",
    "norm/gn2": """# GN with two groups. Mine 2026
        {name: gn, label: gn2, groups: 2, channels_per_group: null, eps: 1.0e-5}""",
    "model/small": """# ResNet-8 once more. Mine 2026
        {name: resnet, label: small, depth: 8, zero_init_last: false}""",
    "dataset/mine": """# The images that come with it. Mine 2026
        {name: cifar10_5k, label: mine}""",
    "recipe/slow": """# @package _global_
        {lr: 0.01}""",
    "scale/tiny": """# @package _global_
        {defaults: [override /model: small, override /dataset: mine], epochs: 1,
         protocol: fixed, sgd_batch: 16, device: cpu, jobs: 1}""",
    "experiment/ours": """# @package _global_
        # Ours. Mine 2026
        {defaults: [override /scale: tiny, override /recipe: slow], axes: {batch: [16, 4]},
         points: [{norm: bn}, {norm: gn2}, {norm: fours}], seeds: 1,
         report: {rows: [norm], columns: batch, metric: final_top1_percent}}""",
}


@pytest.fixture
def folder(tiny: object, tmp_path: Path) -> Iterator[Path]:
    """A folder of one's own with a file for every group."""
    Path("own_choices.py").write_text(NORM)
    for name, text in FILES.items():
        file = tmp_path / "my_conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(line.strip() for line in text.splitlines()))
    yield tmp_path / "my_conf"
    choices.take([])


def test_every_command_has_them(
    normbench: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = normbench("list", "norms", "conf_dir=my_conf").out
    assert "GN with two groups" in said
    assert "fours" in normbench("train", "--help", "conf_dir=my_conf").out
    words = ("norm=fours", "model=small", "recipe=slow", "conf_dir=my_conf")
    shown = yaml.safe_load(normbench("train", *words, "--cfg", "job").out)
    assert (shown["norm"]["size"], shown["model"]["label"], shown["lr"]) == (4, "small", 0.01)

    plan = normbench("sweep", "experiment=ours", "conf_dir=my_conf", "--dry-run").out
    assert plan.startswith("4 cells: small, mine, fixed protocol, 16 images a step, 1 epoch")
    for norm in ("gn2", "fours"):
        done = normbench("train", f"norm={norm}", *WORDS)
        assert (done.code, done.err) == (0, "")
    runs = load_runs("results/runs").set_index("norm")
    assert list(runs.index) == ["fours", "gn2"]
    assert (runs.loc["gn2", "norm.groups"], runs.loc["fours", "norm.size"]) == (2, 4)
    assert set(runs["model"]) == {"small"}
    report = normbench("report", "experiment=ours", "conf_dir=my_conf", "results=results").out
    assert "Missing: 4 of 4 runs" not in report
    assert normbench("evaluate", "results/runs", "statistics=running", *CONF).code == 0


CONF = ("conf_dir=my_conf",)
WORDS = ("scale=tiny", "recipe=slow", "batch=16", "study=ours", "conf_dir=my_conf")


def test_the_conf_of_the_working_folder(normbench: Command, folder: Path) -> None:
    """It needs no word; one with a configuration of its own is somebody else's."""
    assert normbench("train", "norm=gn2", "--cfg", "job").code == 2
    folder.rename(folder.parent / "conf")
    choices.beside.cache_clear()
    assert normbench("train", "norm=gn2", "--cfg", "job").code == 0
    assert normbench("train", "norm=gn2", "conf_dir=null", "--cfg", "job").code == 2
    Path("conf/config.yaml").write_text("{}")
    choices.beside.cache_clear()
    assert normbench("train", "norm=gn2", "--cfg", "job").code == 2
    choices.beside.cache_clear()


MISTAKES = {  # file: its text, what the one line must say
    "norm/gn": ("{name: gn}", ["gn.yaml", "normbench has a norm=gn", "another name"]),
    "norm/mine": ("{name: gn}", ["mine.yaml", "label: mine"]),
    "norm/broken": ("a: [1", ["broken.yaml", "line 1"]),
    "scale/list": ("[1]", ["list.yaml", "key: value"]),
}


def test_mistakes_are_one_line(normbench: Command, folder: Path) -> None:
    for name, (text, words) in MISTAKES.items():
        file = folder / f"{name}.yaml"
        file.write_text(text)
        done = normbench("list", "norms", "conf_dir=my_conf")
        assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), name
        assert all(word in done.err for word in words), done.err
        file.unlink()
    for word in ("conf_dir=nowhere", "conf_dir=", f"conf_dir={folder / 'norm'}"):
        done = normbench("list", word)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert word in done.err
    done = normbench("train", "norm=fuors", "conf_dir=my_conf")
    assert "did you mean 'fours'?" in done.err
    done = normbench("train", "norm=fours", "norm.sise=3", "conf_dir=my_conf")
    assert "did you mean 'norm.size'?" in done.err


def test_a_command_that_is_proposed_says_the_folder(normbench: Command, folder: Path) -> None:
    done = normbench("sweep", "norm=gn2,bn", "batch=0,-1", "seed=0", "conf_dir=my_conf")
    assert done.code == 2
    assert "normbench train seed=0 norm=gn2 batch=0 conf_dir=my_conf: batch=0" in done.err
