"""A finished run, as it was trained: `normbench.load_run(folder)`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal, NamedTuple

from torch import nn

from normbench.data import Dataset, FolderDataset
from normbench.errors import UserError
from normbench.record.record import read_record, read_settings
from normbench.settings.schema import Settings
from normbench.training import checkpoint
from normbench.training.misfit import misfit_of_network
from normbench.training.network import device_of, seeded_network
from normbench.training.run import data_of


class Trained(NamedTuple):
    """The network with the weights of its last epoch, in evaluation mode; what it was trained on."""

    network: nn.Module
    settings: Settings
    data: Dataset | FolderDataset


def load_run(
    folder: str | os.PathLike[str], *, device: Literal["auto", "cpu", "cuda"] | None = None
) -> Trained:
    """The network, settings and data of a finished run in `folder`.

    network: [N, 3, H, W] -> [N, classes], on `device` (auto, cpu, cuda; None: as it was trained).
    data: `data.on(device)` gives its batches, normalized as the network expects them. UserError for
    a folder without a run, one that is not finished or diverged, or whose checkpoint is gone.
    """
    path = Path(folder)
    settings = finished(path)
    if device is not None:
        settings = dataclasses.replace(settings, device=device)
    where = device_of(settings)
    network = seeded_network(settings, where)
    state, passed = checkpoint.find(path, where, lambda state: misfit_of_network(state, network))
    if state is None:
        why = "; ".join(f"{bad.path.name} {bad.why}" for bad in passed)
        raise UserError(
            f"{path} has no readable {checkpoint.NAME}: the weights are gone{why and f' ({why})'}"
        )
    network.load_state_dict(state["model"])
    return Trained(network.eval(), settings, data_of(settings))


def finished(folder: Path) -> Settings:
    """The settings of a run that has ended well. UserError for anything else."""
    record = read_record(folder)
    if record is None:
        said = "its training has not ended" if read_settings(folder) else "there is no run"
        raise UserError(f"{folder}: {said}; name the folder that holds a record.json")
    if record.status != "ok":
        raise UserError(f"{folder}: this run has the status {record.status}, and no last network")
    settings = read_settings(folder)
    if settings is None:
        raise UserError(f"{folder} has a record.json, but no settings.yaml beside it")
    return settings
