"""From settings to the objects of a run: device, network, and the check of both before any folder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from torch import nn

from normbench.config import Choice, Settings, plain_words
from normbench.data import dataset_info, stream
from normbench.errors import UserError, did_you_mean
from normbench.evaluate import EVALUATION_BATCH
from normbench.models import create_model, model_options
from normbench.norms import NormFactory, norm_class, options_of


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
    return network.to(memory_format=layout)


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
    norm, model = settings.norm, settings.model
    check_options("norm", norm, options_of(norm_class(norm.name, norm.options.get("target"))))
    check_options("model", model, model_options(model.name))
    with torch.device("meta"):
        check_stages(settings)
        network = create_network(settings, None)
        try:
            network(torch.empty(settings.sgd_batch, 3, size, size))
            network.eval()(torch.empty(EVALUATION_BATCH, 3, size, size))
        except UserError:
            raise
        except Exception:
            if (
                norm.name != "custom"
            ):  # a user's norm may need real numbers: then it shows as it runs
                raise


def check_stages(settings: Settings) -> None:
    """UserError for a stage in norm_stages that the network does not have."""
    stages: set[int] = set()

    class Stages:  # a norm factory that notes for which stages it is asked
        def __call__(self, channels: int, activated: bool = True, stage: int = 0) -> nn.Module:
            stages.add(stage)
            return nn.Identity()

        def activation(self, channels: int) -> nn.Module:
            return nn.Identity()

    if settings.norm_stages is not None:
        create_model(settings.model.name, Stages(), classes=1, **_shape(settings))
        if not settings.norm_stages or set(settings.norm_stages) - stages:
            known = ", ".join(str(stage) for stage in sorted(stages))
            raise UserError(
                f"norm_stages={settings.norm_stages}: {settings.model.label} has the stages {known}"
            )


def _shape(settings: Settings) -> dict[str, Any]:
    """The options of the network, less the one that needs the weight of a norm."""
    return {k: v for k, v in settings.model.options.items() if k != "zero_init_last"}


def check_options(group: str, choice: Choice, known: Mapping[str, inspect.Parameter]) -> None:
    """UserError for an option that the choice lacks, or whose type is not the annotated one."""
    for key, value in choice.options.items():
        if key == "target" and choice.name == "custom":
            continue
        if key not in known:
            hint = did_you_mean(key, known) or f"; it has {', '.join(known) or 'none'}"
            raise UserError(f"{group}={choice.label} has no option {key!r}{hint}")
        annotation = known[key].annotation
        if annotation is inspect.Parameter.empty:
            continue
        try:
            TypeAdapter(annotation).validate_python(value, strict=True)
        except PydanticSchemaGenerationError:  # a user's own type
            continue
        except ValidationError as error:
            message = plain_words(error.errors()[0]["msg"])
            raise UserError(f"{group}.{key}={value!r}: {message}") from None
