"""What a run is known by: the settings that decide its result, as a hash; and which cells are equal."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normbench.settings.content import digest
from normbench.settings.schema import Evaluate, Settings

NO_RESULT = (
    "protocol",
    "accumulate",
    "recompute",
    "cuda_graph",
    "ops",
    "device",
    "study",
    "results",
    "histograms",
)  # cannot change the result
NO_RESULT_OF_DATASET = ("root", "source")
OWN_FOLDERS = ("folder", "imagenet", "imagenet100")  # of the user's, known by what lies in them


def identity(settings: Settings) -> str:
    """Eight hexadecimal digits of the settings that decide the result."""
    decisive = {k: v for k, v in dataclasses.asdict(settings).items() if k not in NO_RESULT}
    for key in NO_RESULT_OF_DATASET:
        decisive["dataset"]["options"].pop(key, None)
    if settings.dataset.name in OWN_FOLDERS:
        del decisive["dataset"]["label"]  # the folder's name: a copy is the same
        decisive["content"] = digest(str(settings.dataset.options.get("root")))
    if settings.norm.name == "custom":
        decisive["source"] = source_of(str(settings.norm.options.get("target")))
    text = json.dumps(decisive, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def source_of(target: str) -> str | None:
    """The SHA-256 of the file of a user's own norm `module.Class`: another text, another cell."""
    file = Path(*target.split(".")[:-1]).with_suffix(".py")
    found = [Path(folder) / file for folder in ["", *sys.path] if (Path(folder) / file).is_file()]
    return hashlib.sha256(found[0].read_bytes()).hexdigest() if found else None


BATCH_INDEPENDENT = ("none", "ln", "in", "gn", "frn", "gfrn", "lfrn", "lrn", "dn")


def pools_images(norm: str, options: Mapping[str, Any]) -> bool:
    """Whether the norm's result depends on which images share a worker."""
    return norm not in BATCH_INDEPENDENT and not (
        norm == "sn" and "bn" not in options.get("using", ("bn",))
    )


def canonical_batch(
    norm: str, options: Mapping[str, Any], batch: int, workers: int
) -> tuple[int, int]:
    """(batch, workers) under which a cell is run: those given, or one worker for all the images
    where the norm cannot tell the difference."""
    return (batch, workers) if pools_images(norm, options) else (batch * workers, 1)


def canonical(settings: Settings) -> Settings:
    """The cell that stands for all that are equal to this one by construction: a norm
    that sees one image at a time, at every batch of the fixed protocol."""
    everywhere = settings.norm_stages is None
    pools = pools_images(settings.norm.name, settings.norm.options)
    if pools or not everywhere or settings.protocol != "fixed":
        return settings
    return dataclasses.replace(
        settings, batch=settings.sgd_batch, workers=1, evaluate=Evaluate("running")
    )
