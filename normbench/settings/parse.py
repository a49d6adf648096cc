"""`parse`: the one way from plain data to settings. It forbids unknown keys and checks across fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from normbench.errors import UserError, did_you_mean, divisors
from normbench.settings.schema import (
    FIXED_SGD_BATCH,
    LATER,
    PAPER_WORKERS,
    Choice,
    Evaluate,
    Settings,
)

NOT_OF_A_RUN = (
    *("jobs", "jobs_per_gpu", "seeds", "axes", "points", "paper_setup", "report", "gn_groups"),
)  # settings of a sweep, and what other settings are made of


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


def restored(data: Mapping[str, Any]) -> Settings:
    """The settings from what `dataclasses.asdict` made of them, now or in an older version.

    UserError for a key or value that this version does not know.
    """
    plain = {**LATER, **data}
    for key, kind in {
        **dict.fromkeys(("norm", "model", "dataset"), Choice),
        "evaluate": Evaluate,
    }.items():
        if not isinstance(plain.get(key), Mapping):
            raise UserError(f"{key}={plain.get(key)!r}: these are not the settings of a run")
        plain[key] = build(kind, plain[key], f"{key}.")
    return build(Settings, plain, "")


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
    if group == "dataset" and options.get("validation") == 0:
        del options["validation"]  # as though it did not exist: it is in no identity
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
            f" {sgd_batch // batch}; leave workers out, or say workers=null"
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
