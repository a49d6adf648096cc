"""The settings of a run as frozen dataclasses: the closed sets, each field checked.

`parse` is the one way in from plain data; it forbids unknown keys and checks across fields.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from normbench.errors import UserError, did_you_mean, divisors
from normbench.imagefolder import digest

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
    """One cell: everything that decides its result, and where it is written."""

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
    cuda_graph: bool
    ops: Literal["auto", "eager", "cpu", "triton"] | None
    protocol: Literal["scaled", "fixed"]
    device: Literal["auto", "cpu", "cuda"]
    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")]
    results: str
    histograms: bool
    channel_means: bool

    @property
    def sgd_batch(self) -> int:
        """Images in one step of SGD."""
        return self.batch * self.workers

    @property
    def peak_lr(self) -> float:
        """The learning rate by the linear rule."""
        return self.lr * self.sgd_batch / self.lr_batch

    @property
    def folder(self) -> Path:
        """Where the run lives; the same settings have the same folder."""
        cell = f"{self.norm.label}-b{self.batch}x{self.workers}-s{self.seed}-{identity(self)}"
        network = f"{self.model.label}-{self.dataset.label}"
        return Path(self.results) / "runs" / self.study / network / cell


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


NOT_OF_A_RUN = ("jobs", "jobs_per_gpu", "seeds", "axes", "points", "report", "gn_groups")


def parse(data: Mapping[str, Any]) -> Settings:
    """The settings from plain data, as the configuration files hold it.

    Raises UserError, one line, for an unknown key, a wrong type or value, or fields that do not fit
    together.
    """
    plain = {key: value for key, value in data.items() if key not in NOT_OF_A_RUN}
    for group in ("norm", "model", "dataset"):
        plain[group] = choice(group, plain.get(group))
    evaluate = plain.get("evaluate", {})
    if not isinstance(evaluate, Mapping):
        raise UserError(f"evaluate={evaluate!r} must hold statistics and batches")
    plain["evaluate"] = build(Evaluate, evaluate, "evaluate.")
    plain["workers"] = workers(plain, plain.pop("sgd_batch", None))
    if plain.get("nesterov") is True and not plain.get("momentum"):
        raise UserError("nesterov=true needs a momentum above 0; give momentum=0.9")
    settings = build(Settings, plain, "")
    if settings.workers % settings.accumulate:
        raise UserError(
            f"accumulate={settings.accumulate} does not divide workers={settings.workers}: a part of"
            f" a step is whole workers; choose among {divisors(settings.workers)}"
        )
    return settings


T = TypeVar("T")


def build(kind: type[T], values: Mapping[str, Any], prefix: str) -> T:
    """A dataclass from its values; the first thing that does not fit is a UserError."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise UserError(explain(error.errors()[0], kind, prefix)) from None


def choice(group: str, data: Any) -> Choice:
    """A Choice from `{name, label, **options}`."""
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise UserError(f"{group}={data!r} is not a choice; try normbench list {group}s")
    options = {key: value for key, value in data.items() if key not in ("name", "label")}
    label = data.get("label", data["name"])
    if data["name"] == "custom":
        options |= options.pop("options", {})
        label = str(options.get("target")).rpartition(".")[2]
    if group == "dataset" and data["name"] == "folder" and options.get("root"):
        label = Path(str(options["root"])).expanduser().resolve().name.removesuffix(".tar")
    values = {"name": data["name"], "label": label, "options": options}
    return build(Choice, values, f"{group}.")


def workers(plain: Mapping[str, Any], sgd_batch: Any) -> Any:
    """The number of workers that the protocol makes of `batch`, `workers` and `sgd_batch`."""
    batch, given = plain.get("batch"), plain.get("workers")
    if plain.get("protocol") != "fixed":
        if sgd_batch is not None:
            raise UserError(
                f"sgd_batch={sgd_batch} belongs to protocol=fixed; add that, or say sgd_batch=null"
            )
        return PAPER_WORKERS if given is None else given
    sgd_batch = FIXED_SGD_BATCH if sgd_batch is None else sgd_batch
    for key, value in (("batch", batch), ("sgd_batch", sgd_batch)):
        if type(value) is not int or value < 1:
            raise UserError(f"{key}={value!r}: must be a whole number, 1 or more")
    assert isinstance(batch, int) and isinstance(sgd_batch, int)
    if sgd_batch % batch:
        raise UserError(
            f"batch={batch} does not divide sgd_batch={sgd_batch}; choose batch among"
            f" {divisors(sgd_batch)}"
        )
    if given not in (None, sgd_batch // batch):
        raise UserError(
            f"workers={given} contradicts protocol=fixed, where workers = sgd_batch / batch ="
            f" {sgd_batch // batch}; leave workers out"
        )
    return sgd_batch // batch


def explain(error: ErrorDetails, kind: Any, prefix: str) -> str:
    """One line from one error of the validator."""
    key = str(error["loc"][0])
    if error["type"] == "unexpected_keyword_argument":
        known = [f.name for f in dataclasses.fields(kind)]
        hint = did_you_mean(key, known) or f"; there are {', '.join(known)}"
        return f"there is no setting {prefix + key!r}{hint}"
    if error["type"] in ("missing", "missing_argument"):
        return f"the setting {prefix + key!r} has no value; give {prefix}{key}=…"
    return f"{prefix}{key}={error['input']!r}: {plain_words(error['msg'])}"


def plain_words(message: str) -> str:
    """The validator's message in the words of a person who types settings."""
    for theirs, ours in (
        ("Input should be ", "must be "),
        (
            "String should match pattern '^[A-Za-z0-9_-][A-Za-z0-9_.-]*$'",
            "must be of letters, digits, . _ and -",
        ),
        ("a valid integer", "a whole number"),
        ("a valid number", "a number"),
        ("a valid boolean", "true or false"),
        ("greater than or equal to", "at least"),
    ):
        message = message.replace(theirs, ours)
    return message
