"""From settings to the objects of a run: device, network, and the check of both before any folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from normbench.config import Settings
from normbench.data import dataset_info, stream
from normbench.errors import UserError
from normbench.models import create_model
from normbench.norms import NormFactory


def device_of(settings: Settings) -> torch.device:
    """The device that `device=` names. UserError where it says cuda and there is none."""
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise UserError("device=cuda: torch sees no CUDA device; use device=cpu or device=auto")
    name = "cuda" if available and settings.device != "cpu" else "cpu"
    if settings.precision == "fp16" and name == "cpu":
        raise UserError("precision=fp16 needs a CUDA device; use precision=bf16 or fp32")
    return torch.device(name)


def create_network(settings: Settings, generator: torch.Generator | None) -> nn.Module:
    """The network of a cell, on the default device, with weights drawn from `generator`."""
    norm = NormFactory(
        settings.norm.name,
        chosen=settings.activation,
        images=settings.batch,
        options=settings.norm.options,
        stages=None if settings.norm_stages is None else tuple(settings.norm_stages),
    )
    classes = dataset_info(settings.dataset.name)[0]
    return create_model(
        settings.model.name, norm, classes=classes, generator=generator, **settings.model.options
    )


def seeded_network(settings: Settings, device: torch.device) -> nn.Module:
    """The network with the first weights of `settings.seed`; torch's own stream is left alone."""
    weights = stream(settings.seed, "weights", 0)
    with torch.random.fork_rng(devices=[]):  # for a user's norm that draws from torch's stream
        torch.manual_seed(weights.initial_seed())
        network = create_network(settings, weights).to(device)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return network.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def check(settings: Settings) -> None:
    """Runs the network once on shapes alone, so that what cannot work is said before it starts.

    UserError for what the user chose (groups that do not divide, 1×1 maps, an unknown option, ...).
    """
    _, images, _, size = dataset_info(settings.dataset.name)
    if settings.sgd_batch > images:
        raise UserError(
            f"batch={settings.batch} × workers={settings.workers} = {settings.sgd_batch} images a"
            f" step, but {settings.dataset.name} has {images}; lower batch or workers"
        )
    with mistakes_of_options():
        with torch.device("meta"):
            network = create_network(settings, None)
            network(torch.empty(settings.sgd_batch, 3, size, size))


@contextlib.contextmanager
def mistakes_of_options() -> Iterator[None]:
    """A TypeError of a constructor, for an option it lacks or of another type, is the user's."""
    try:
        yield
    except TypeError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"an option of the norm or model does not fit: {error}") from error
