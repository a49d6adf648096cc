"""Checkpoints that are whole or not there: written aside, moved into place, the previous one kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

NAME, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes `state` to the folder's checkpoint; at every moment one whole checkpoint is there."""
    aside = folder / f"{NAME}.tmp"
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if (folder / NAME).exists():
        os.replace(folder / NAME, folder / PREVIOUS)
    os.replace(aside, folder / NAME)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest readable checkpoint of the folder, tensors on `device`; None where there is none."""
    for name in (NAME, PREVIOUS):
        try:
            state: dict[str, Any] = torch.load(
                folder / name, map_location=device, weights_only=True
            )
        except torch.OutOfMemoryError:
            raise
        except Exception:  # a damaged file makes the reader raise nearly anything
            continue
        return state
    return None
