"""A report before it is written: what every format is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from normbench.report.experiment import Experiment
from normbench.report.study import Section
from normbench.report.tables import Table


@dataclass
class Part:
    """One section: its heading (empty for the first), its lines of facts, its tables."""

    heading: str
    facts: list[str]
    tables: list[Table]
    section: Section


@dataclass
class Figure:
    """A drawn figure. `caption` says what is to be seen; `svg` and `png` are files."""

    name: str
    caption: str
    svg: bytes
    png: bytes


@dataclass
class Document:
    """The report of an experiment."""

    experiment: Experiment
    metric: str
    parts: list[Part]
    figures: list[Figure] = field(default_factory=list)
