"""The settings of a run as frozen dataclasses: the closed sets, each field checked."""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
PAPER_WORKERS = 8
FIXED_SGD_BATCH = 128

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=STRICT)
class Choice:
    """A choice from an open set: its name, what folders and tables call it, its own options."""

    name: str
    label: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """statistics: of batch norms; batches: how many training batches they are recomputed from."""

    statistics: Literal["running", "precise"] = "running"
    batches: Count = 50


@dataclass(frozen=True, config=STRICT)
class Settings:
    """Everything that decides the result of a run, and where it is written.

    A field with a default came later than runs that are kept: see `LATER`.
    """

    norm: Choice
    model: Choice
    dataset: Choice
    batch: Count
    workers: Count
    activation: Literal["auto", "none", "relu", "tlu", "affine_tlu", "prelu"]
    norm_stages: list[int] | None
    epochs: Count
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    lr: NotNegative
    lr_batch: Count
    momentum: Fraction
    nesterov: bool
    weight_decay: NotNegative
    norm_weight_decay: NotNegative | None
    warmup: Fraction
    schedule: Literal["cosine", "step", "constant"]
    milestones: list[Fraction]
    decay: Positive
    label_smoothing: Fraction
    augment: bool
    evaluate: Evaluate
    precision: Literal["fp32", "bf16", "fp16"]
    channels_last: bool
    accumulate: Count
    recompute: list[str]
    cuda_graph: Literal["auto"] | bool
    ops: Literal["auto", "eager", "cpu", "triton"] | None
    protocol: Literal["scaled", "fixed"]
    device: Literal["auto", "cpu", "cuda"]
    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")]
    results: str
    histograms: bool
    channel_means: bool
    weight_standardization: bool = False
    tf32: bool = False
    determinism: Literal["none", "strict"] = "none"

    @property
    def norm_label(self) -> str:
        """What folders and lines on the screen call the norm: gn, or gn+ws with standardized weights."""
        return self.norm.label + ("+ws" if self.weight_standardization else "")

    @property
    def sgd_batch(self) -> int:
        """Images in one step of SGD."""
        return self.batch * self.workers

    @property
    def peak_lr(self) -> float:
        """The learning rate by the linear rule."""
        return self.lr * self.sgd_batch / self.lr_batch


LATER = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
"""Settings that older runs do not have, and the value that such a run stands for."""
