"""`normbench report`: reads the records, lays them over the study, writes each format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from normbench.errors import FailedError, UserError
from normbench.record.record import write_atomically
from normbench.report import arguments as args
from normbench.report.document import Document, Part
from normbench.report.experiment import Experiment, load, names
from normbench.report.facts import difference, facts
from normbench.report.folders import experiment_of
from normbench.report.formats import as_csv, as_latex, as_markdown
from normbench.report.html import as_html
from normbench.report.runs import FILE, Run, read_runs, runs_csv
from normbench.report.study import sections
from normbench.report.tables import tables
from normbench.report.terminal import show

WRITERS: dict[str, tuple[str, Callable[[Document], str]]] = {
    "md": ("table.md", as_markdown),
    "csv": ("table.csv", as_csv),
    "tex": ("table.tex", as_latex),
    "html": ("report.html", as_html),
}


def run(arguments: list[str]) -> int:
    """The command; the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(args.HELP + f"Experiments: {', '.join(names())}")
        return 0
    request = args.parse(arguments)
    experiment, runs = gather(request)
    out = request.out or request.results / experiment.study
    document = compose(experiment, runs, request)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write(document, runs, out, request.formats)
    except OSError as error:
        raise FailedError(f"out={out}: {error.strerror}; choose another with out=DIR") from None
    show(document)
    print(f"\nwritten to {out}")
    return 0


def gather(request: args.Request) -> tuple[Experiment, list[Run]]:
    """The experiment and its runs, filtered."""
    if request.experiment is not None:
        experiment = load(request.experiment)
        roots = request.folders or [request.results / "runs" / experiment.study]
        runs = read_runs(roots)
    else:
        runs = read_runs(request.folders)
        if not runs:
            raise UserError(
                f"{request.folders[0]}: no record.json below it; say where the runs are"
            )
        experiment = experiment_of(runs)
    axes = {**experiment.axes, **request.axes}
    experiment = dataclasses.replace(experiment, axes=axes)
    for key, value in request.where.items():
        runs = [run for run in runs if key in experiment.keys or run.values.get(key) == value]
    return experiment, runs


def compose(experiment: Experiment, runs: list[Run], request: args.Request) -> Document:
    """The whole report as data."""
    metric = request.metric or experiment.metric
    found = sections(experiment, runs, request.seeds)
    parts = []
    for section in found:
        for key, value in request.where.items():
            if key in experiment.keys:
                section.cells = [cell for cell in section.cells if cell.values[key] == value]
        heading = "" if section is found[0] else f"With {difference(section, found[0])}"
        parts.append(
            Part(
                heading,
                facts(experiment, section, metric),
                tables(experiment, section, metric),
                section,
            )
        )
    return Document(experiment, metric, parts)


def write(document: Document, runs: list[Run], out: Path, formats: tuple[str, ...]) -> None:
    """Every file of the report. Figures are drawn once, for the page and for themselves."""
    write_atomically(out / FILE, runs_csv(runs))
    if {"html", "png", "svg"} & set(formats):
        from normbench.report.figures import draw

        document.figures = draw(document, formats)
    for suffix in ("png", "svg"):
        for figure in document.figures if suffix in formats else []:
            (out / f"figure_{figure.name}.{suffix}").write_bytes(getattr(figure, suffix))
    for key, (name, writer) in WRITERS.items():
        if key in formats:
            write_atomically(out / name, writer(document))
