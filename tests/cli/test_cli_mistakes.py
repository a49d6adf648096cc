"""A mistake is one line that names it, exit code 2, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Command = Callable[..., Any]

MISTAKES: dict[str, list[str]] = {
    # what is typed: what the line must say
    "train norm=fnr": ["norm=fnr", "'frn'"],
    "train model=resnet21": ["model=resnet21", "resnet20"],
    "train dataset=cifar": ["dataset=cifar", "cifar10"],
    "train experiment=gn_tabel2": ["gn_tabel2", "gn_table2"],
    "train bacth=2": ["'bacth'", "'batch'"],
    "train +bacth=2": ["'bacth'", "'batch'"],
    "train +batch=2": ["batch"],
    "train ++bacth=2": ["'bacth'", "'batch'"],
    "train ~batch": ["batch"],
    "train evaluate.statistic=precise": ["evaluate.statistic", "evaluate.statistics"],
    "train batch=two": ["batch='two'", "whole number"],
    "train batch=0": ["batch=0", "at least 1"],
    "train batch=null": ["batch"],
    "train batch=2.5": ["batch=2.5", "whole number"],
    "train lr=1e400": ["lr"],
    "train augment=maybe": ["augment='maybe'", "true or false"],
    "train schedule=cosin": ["schedule='cosin'", "'cosine'"],
    "train protocol=fixed batch=3": ["batch=3", "128"],
    "train sgd_batch=64": ["sgd_batch", "protocol=fixed"],
    "train study=../x": ["study="],
    "train norm=gn norm.groups=7": ["groups=7", "16"],
    "train norm=bn norm.groups=8": ["norm.groups"],
    "train +norm.groups=8": ["'groups'"],
    "train norm=custom": ["norm.target"],
    "train norm=custom norm.target=nowhere.Norm": ["nowhere.Norm"],
    "train norm=custom norm.target=json.JSONDecoder": ["json.JSONDecoder"],
    "train norm=in model=vgg_a": ["single number"],
    "train model=resnet20 model.depth=21": ["depth=21", "6n + 2"],
    "train dataset=cifar10 dataset.root=/nope": ["/nope"],
    "train batch=5001 workers=1": ["5001", "5000"],
    "train precision=fp16 device=cpu": ["fp16"],
    "train batch=[1": ["[1"],
    "train batch": ["'batch'", "batch=…"],
    "train bn batch=2": ["'bn'", "did you mean norm=bn?"],
    "train norm.eps=${nothing}": ["nothing"],
    "train --multirnu norm=bn": ["--multirnu", "'--multirun'"],
    "train --epochs=3": ["--epochs=3", "did you mean epochs=3?"],
    "train accumulate=3": ["accumulate=3", "1, 2, 4, 8"],
    "train recompute=[layers]": ["recompute='layers'", "stages"],
    "train ops=triron": ["ops='triron'", "'triton'"],
    "train recipe=grn": ["recipe=grn", "gn"],
    "train dataset=folder dataset.root=/nope": ["/nope"],
    "train dataset=folder": ["dataset.root"],
    "train recipe=gn": ["size"],
    "tarin norm=bn": ["'tarin'", "'train'"],
    "frobnicate": ["'frobnicate'", "train", "list"],
    "list nroms": ["'nroms'", "norms"],
    "fetch cifar11": ["'cifar11'", "cifar10"],
    "sweep norm": ["'norm'", "did you mean norm=…?"],
    "sweep gn batch=2,8": ["'gn'", "did you mean norm=gn?"],
    "sweep experiment=gn_tabel2": ["gn_tabel2", "gn_table2"],
}


def one_line(code: int, err: str, words: list[str]) -> None:
    assert code == 2
    assert err.startswith("normbench: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("typed", MISTAKES)
def test_one_line(
    normbench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = normbench(*typed.split())
    one_line(done.code, done.err, MISTAKES[typed])
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda(normbench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    done = normbench("train", "device=cuda")
    one_line(done.code, done.err, ["device=cuda", "device=cpu"])
    assert list(tmp_path.iterdir()) == []


def test_results_where_none_can_be(
    normbench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    done = normbench("train", "results=file", "device=cpu")
    one_line(done.code, done.err, ["file", "results="])


@pytest.mark.parametrize(
    "typed", ["train norm=fnr", "train +bacth=2", "train norm=gn norm.groups=7"]
)
def test_in_a_process_of_its_own(tmp_path: Path, typed: str) -> None:
    """As a shell sees it."""
    command = [sys.executable, "-m", "normbench", *typed.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    one_line(done.returncode, done.stderr, MISTAKES[typed])
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_grid_by_train_is_planned_like_a_sweep(normbench: Command) -> None:
    """Every cell is tried, each mistake is a line, and nothing is trained."""
    done = normbench("train", "-m", "norm=bn,gn", "batch=0,-1", "device=cpu")
    assert done.code == 2
    said = done.err.splitlines()
    assert len(said) == 4
    assert said[3] == (
        "normbench: invalid: normbench train norm=gn batch=-1 device=cpu:"
        " batch=-1: must be at least 1"
    )
    many = normbench("train", "-m", "norm=bn,gn", "seed=range(0,100000)")
    assert many.code == 2
    assert "200,000 cells: a study has at most 50,000" in many.err
    assert normbench("train", "-m", "norm=bn,gn", "lr=interval(0,1)").code == 2
