"""What a table must say of itself: protocol, network, data, length, seeds, metric, what is missing."""

from __future__ import annotations

from typing import Any

from normbench.report.experiment import METRICS, Experiment, Values
from normbench.report.runs import text
from normbench.report.study import Section
from normbench.settings.schema import FIXED_SGD_BATCH

LISTED = 20  # missing or failed runs named one by one


def facts(experiment: Experiment, section: Section, metric: str) -> list[str]:
    """The lines under the title of a section, as sentences."""
    lines = [protocol(section.context), recipe(section), how_to_read(section, metric)]
    return [line for line in [*lines, shared(section), *absent(experiment, section)] if line]


def protocol(context: Values) -> str:
    if context.get("protocol") == "fixed":
        images = context.get("sgd_batch") or FIXED_SGD_BATCH
        return (
            f"Protocol fixed: {images} images in every step of SGD, whatever the batch, so that only"
            " the statistics change."
        )
    workers = context.get("workers")
    count = (
        f"{workers} worker{'s' if workers != 1 else ''}" if workers else "workers as in the table"
    )
    return f"Protocol scaled: {count}; the SGD batch and the learning rate shrink with the batch."


def recipe(section: Section) -> str:
    """Network, data, length, learning rate, seeds; only what is the same for all cells."""
    c = section.context
    if "epochs" not in c:
        return "No run of this study was found."
    parts = [f"Network {c['model']}"] if "model" in c else []
    parts += [f"dataset {c['dataset']}"] if "dataset" in c else []
    parts.append(f"{c['epochs']} epochs")
    if "lr" in c:
        parts.append(f"learning rate {text(c['lr'])} for {c['lr_batch']} images")
    parts.append(f"{c['batch']} images per worker") if "batch" in c else None
    line = f"{', '.join(parts)}; {seeds(section.seeds)}."
    return line[0].upper() + line[1:]


def seeds(numbers: list[int]) -> str:
    """`seed 0`, `seeds 0 to 2`, `seeds 0, 3, 7`."""
    if len(numbers) == 1:
        return f"seed {numbers[0]}"
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"seeds {numbers[0]} to {numbers[-1]}"
    return f"seeds {', '.join(map(str, numbers))}"


def how_to_read(section: Section, metric: str) -> str:
    n = len(section.seeds)
    spread = (
        f"mean ± half-width of the 95 % Student-t interval over seeds, n = {n} unless said"
        if n > 1
        else "one seed (n = 1), so no interval"
    )
    return f"Metric: {METRICS[metric]}, in percent; {spread}."


def shared(section: Section) -> str:
    norms = dict.fromkeys(text(cell.values.get("norm")) for cell in section.cells if cell.shared)
    if not norms:
        return ""
    return f"Without statistics over images, and so run once and shown at every batch: {', '.join(norms)}."


def absent(experiment: Experiment, section: Section) -> list[str]:
    """What is missing, failed or left out."""
    lines = []
    if missing := section.missing():
        every = len(missing) + len({r.folder for cell in section.cells for r in cell.runs.values()})
        named = [f"{typed(values)} seed={seed}" for values, seed in missing]
        lines.append(
            f"Missing: {len(missing)} of {every} runs; the same normbench sweep command again completes"
            f" them: {some(named)}."
        )
    if failed := section.failed():
        named = [
            f"{typed({key: run.values.get(key) for key in experiment.keys})} seed={run.seed}"
            f" ({run.record.status}: {run.record.error or 'no message'})"
            for run in failed
        ]
        lines.append(f"Failed: {len(failed)} run{'s' if len(failed) > 1 else ''}: {some(named)}.")
    if section.foreign:
        folders = [run.folder.name for run in section.foreign]
        lines.append(f"Left out, of no cell of the experiment: {some(folders)}.")
    return lines


def some(items: list[str]) -> str:
    more = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return "; ".join(items[:LISTED]) + more


def typed(values: dict[str, Any]) -> str:
    """Values as overrides; those that a norm does not have are left out."""
    return " ".join(f"{key}={text(v) or 'null'}" for key, v in values.items() if v is not None)


def difference(section: Section, first: Section) -> str:
    """What tells a section from the first one."""
    keys = sorted(set(section.context) | set(first.context))
    other = [k for k in keys if section.context.get(k) != first.context.get(k)]
    return ", ".join(f"{key}={text(section.context.get(key)) or 'null'}" for key in other)
