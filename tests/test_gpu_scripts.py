"""What the scripts for a lent GPU do that a CPU can try."""

from __future__ import annotations

import hashlib
import runpy
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import normbench
from normbench.data.download.catalogue import File

SCRIPTS = Path(normbench.__file__).parent.parent / "scripts" / "gpu"
pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="not in a checkout")


def test_a_packed_file_comes_back_and_a_damaged_one_is_seen(tmp_path: Path) -> None:
    script: dict[str, Any] = runpy.run_path(str(SCRIPTS / "pack_cifar.py"))
    pixels = np.random.default_rng(0).integers(0, 256, (200, 3073), dtype=np.uint8)
    content = pixels.tobytes()
    file = File("data_batch_1.bin", len(content), hashlib.sha256(content).hexdigest())
    (tmp_path / file.name).write_bytes(content)
    pieces, back = tmp_path / "pieces", tmp_path / "back"
    pieces.mkdir()
    back.mkdir()
    assert script["pack"](file, tmp_path, pieces) == ""
    assert script["unpack"](file, pieces, back) == ""
    assert (back / file.name).read_bytes() == content
    (back / file.name).unlink()
    (pieces / f"{file.name}.labels").write_bytes(bytes(200))
    assert script["unpack"](file, pieces, back) == f"{file.name} is not the authors'"
    (pieces / f"{file.name}.webp").unlink()
    assert "is missing" in script["unpack"](file, pieces, back)
    assert list(back.iterdir()) == []
    (tmp_path / file.name).write_bytes(content[:-3073] + bytes(3073))
    assert "is not the authors'" in script["pack"](file, tmp_path, pieces)


def test_the_shell_scripts_can_be_read_by_bash() -> None:
    for name in ("setup", "bench_gpu", "study"):
        done = subprocess.run(
            ["bash", "-n", SCRIPTS / name], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
