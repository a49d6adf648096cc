"""Checkpoints that are whole or not there: written aside, moved into place, the previous one kept."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from normbench.record.files import aside

NAME, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
LAST = (NAME, PREVIOUS)
BEST = "checkpoint.best.pt"
FORMAT = 2  # 1: of whole epochs only, and without the identity

Wrong = Callable[[Any], str]
"""Why a state is not the one that is wanted; empty where it is."""


class Bad(NamedTuple):
    """A checkpoint that is of no use. readable: it holds a state, though not the one wanted."""

    path: Path
    why: str
    readable: bool


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes `state` to the folder's checkpoint; at every moment one whole checkpoint is there."""
    buffer = io.BytesIO()  # so that an error of the disk is met by Python, not within torch
    torch.save({"format": FORMAT, **state}, buffer)
    with aside(folder / NAME, buffer.getvalue(), durable=True) as whole:
        if (folder / NAME).exists():
            os.replace(folder / NAME, folder / PREVIOUS)
        os.replace(whole, folder / NAME)


def keep_best(folder: Path) -> None:
    """The folder's checkpoint is kept as the best one too: the same file, where links are possible."""
    file = folder / f"{BEST}.{os.getpid()}.tmp"
    file.unlink(missing_ok=True)
    try:
        os.link(folder / NAME, file)  # a checkpoint is never written to, but replaced
    except OSError:
        shutil.copyfile(folder / NAME, file)
    os.replace(file, folder / BEST)


def find(
    folder: Path,
    device: torch.device,
    wrong: Wrong = lambda state: "",
    names: Sequence[str] = LAST,
) -> tuple[dict[str, Any] | None, list[Bad]]:
    """The first checkpoint of `names` that can be read and is not `wrong`, tensors on `device`,
    or None; and those that were passed over. OSError where the disk, not the file, is at fault."""
    passed: list[Bad] = []
    for path in (folder / name for name in names):
        if not os.path.lexists(path):
            continue
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a damaged file makes the reader raise nearly anything
            if isinstance(error, OSError) and error.errno not in (None, *NOT_A_FILE):
                raise
            passed.append(Bad(path, "cannot be read", readable=False))
            continue
        if why := wrong(state):
            passed.append(Bad(path, why, readable=True))
            continue
        return state, passed
    return None, passed


NOT_A_FILE = (errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.EINVAL)  # ENOENT: of a link


def load(
    folder: Path, device: torch.device, wrong: Wrong = lambda state: ""
) -> dict[str, Any] | None:
    """The checkpoint that `find` finds."""
    return find(folder, device, wrong)[0]
