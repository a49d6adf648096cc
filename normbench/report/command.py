"""`normbench report`: reads the runs, lays them over the study, writes each format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path

from normbench.errors import FailedError, UserError
from normbench.record.files import CANNOT_WRITE
from normbench.record.record import write_atomically
from normbench.report import arguments as args
from normbench.report.document import Document, Part
from normbench.report.evaluations import with_evaluations
from normbench.report.experiment import Experiment, load
from normbench.report.facts import difference, facts
from normbench.report.folders import experiment_of, folders_of, of_study
from normbench.report.formats import as_csv, as_latex, as_markdown
from normbench.report.frames import Frames, existing, is_report, read, runs_of
from normbench.report.html import as_html
from normbench.report.learned import learned_tables
from normbench.report.store import compact, write_frames
from normbench.report.study import sections
from normbench.report.tables import tables
from normbench.report.terminal import show
from normbench.report.values import objects, text, token
from normbench.settings.bounds import cells

WRITERS: dict[str, Callable[[Document], str]] = {
    "table.md": as_markdown,
    "table.csv": as_csv,
    "table_learned.csv": partial(as_csv, learned=True),
    "table.tex": as_latex,
    "report.html": as_html,
}


def run(arguments: list[str]) -> int:
    """The command; the exit code. Runs of several studies are a report each."""
    request = args.parse(arguments)
    folders, frames = gather(request)
    studies = [] if request.experiment else list(frames.runs["study"].unique())
    for study in studies if len(studies) > 1 else [None]:
        one(request, frames if study is None else of_study(frames, study), folders[0], study)
    return 0


def one(request: args.Request, frames: Frames, source: Path, study: str | None) -> None:
    """The report of one study; `study`: its name, where there are others."""
    places = frames.runs
    frames = compact(frames)
    experiment = load(request.experiment) if request.experiment else experiment_of(frames.runs)
    experiment = dataclasses.replace(experiment, axes={**experiment.axes, **request.axes})
    combinations = prod(map(len, experiment.axes.values())) * max(1, len(experiment.points))
    cells(combinations * (request.seeds or 1))
    if request.norms:
        experiment = experiment.only(request.norms)
    document = compose(experiment, frames, request)
    if frames.runs.empty:
        show(document)
        raise UserError(f"{source}: there is no run of this study, and nothing was written")
    refuse_nothing(document, request)
    out = request.out or (source if is_report(source) else request.results / experiment.study)
    if study:
        out = (request.out or request.results) / study
    document.folders = folders_of(places, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write(document, out, request)
    except OSError as error:
        kind = FailedError if error.errno in CANNOT_WRITE else UserError  # full; or a wrong word
        raise kind(f"out={out}: {error.strerror}; choose another with out=DIR") from None
    show(document)
    print(f"\nwritten to {out}\n" if study else f"\nwritten to {out}")
    for name, why in document.left.items():
        print(f"figure_{name} was not drawn: {why}; what was there stays as it is")


def gather(request: args.Request) -> tuple[list[Path], Frames]:
    """The folders that are read, and what is in them."""
    if request.experiment is None:
        return request.folders, existing(request.folders)
    study = load(request.experiment).study
    folders = request.folders or [runs_of(request.results, study)]
    return folders, read(folders)


def refuse_nothing(document: Document, request: args.Request) -> None:
    """UserError where there are runs, and where.KEY=VALUE leaves none of them."""
    if request.where and all(part.section.runs.empty for part in document.parts):
        asked = " ".join(f"where.{key}={text(value)}" for key, value in request.where.items())
        there = document.frames.runs
        known = {k: sorted({text(v) for v in there[k]}) for k in request.where if k in there}
        found = "; ".join(f"{key} is {', '.join(values)}" for key, values in known.items())
        raise UserError(f"{asked}: none of {len(there)} runs; {found or 'no run has such a key'}")


def compose(experiment: Experiment, frames: Frames, request: args.Request) -> Document:
    """The whole report as data."""
    runs, wanted = frames.runs, request.wanted or experiment.metric
    if experiment.evaluations and len(runs):
        runs = with_evaluations(runs, frames.evaluations, experiment.evaluations)
    if request.norms:
        runs = runs[runs["norm"].isin(request.norms)]
    for key, value in request.where.items():
        if key not in experiment.keys:
            there = objects(runs.reindex(columns=[key]))[key].map(token)
            runs = runs[there == token(value)]
    error = request.view.measure == "error"
    found, parts = sections(experiment, runs, request.seeds, wanted), []
    for section in found:
        for key, value in request.where.items():
            if key in experiment.keys:
                section.keep(section.cells[key].map(token) == token(value))
        parts.append(
            Part(
                "" if section is found[0] else f"With {difference(section, found[0])}",
                facts(experiment, section, wanted, error),
                tables(experiment, section, error),
                learned_tables(experiment, section, frames.learned),
                section,
            )
        )
    return Document(experiment, frames, parts, request.view)


def write(document: Document, out: Path, request: args.Request) -> None:
    """Every file of the report. Figures are drawn once, for the page and for themselves."""
    write_frames(document.frames, out)
    args.remember(request, out, document.experiment, experiment_of(document.frames.runs))
    wanted = set(args.DRAWN) & set(request.formats)
    if kinds := wanted | ({"svg"} if "html" in request.formats else set()):
        from normbench.report.figures import draw

        draw(document, kinds)
    for figure in document.figures:
        for kind in wanted:
            (out / f"figure_{figure.name}.{kind}").write_bytes(figure.files[kind])
    for name, writer in WRITERS.items():
        if name.rpartition(".")[2] in request.formats:
            if text := writer(document):
                write_atomically(out / name, text)
            else:
                (out / name).unlink(missing_ok=True)
