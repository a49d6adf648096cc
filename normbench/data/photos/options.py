"""The options of a dataset that is a folder of images, each checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from normbench.errors import UserError
from normbench.settings.bounds import Pixels, Seed
from normbench.settings.parse import build
from normbench.settings.schema import STRICT


@dataclass(frozen=True, config=STRICT)
class Options:
    """conf/dataset/folder.yaml says what each means."""

    root: str | None = None
    source: str | None = None
    archive: Literal[160, 320, "full"] = 160
    size: Pixels = 224
    resize: Pixels | None = None
    augmentation: Literal["inception", "basic"] = "inception"
    color_jitter: bool = False
    cache: Literal["auto"] | bool = "auto"
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    split_seed: Seed = 0

    @property
    def side(self) -> int:
        """The shorter side in pixels before a centre crop: the papers' 256 for 224, and so for all."""
        return round(self.size * 256 / 224) if self.resize is None else self.resize


def parse_options(values: Mapping[str, Any]) -> Options:
    """The options from plain data; UserError for what does not fit."""
    options = build(Options, values, "dataset.")
    if options.side < options.size:
        raise UserError(
            f"dataset.resize={options.resize} is less than the crop, dataset.size={options.size};"
            " leave dataset.resize out for the papers' ratio, 256 for 224"
        )
    return options
