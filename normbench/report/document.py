"""A report before it is written: what every format is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from normbench.report.experiment import Experiment
from normbench.report.frames import Frames
from normbench.report.study import Section
from normbench.report.tables import Table


@dataclass
class Part:
    """One section: its heading (empty for the first), its lines of facts, its tables."""

    heading: str
    facts: list[str]
    tables: list[Table]
    learned: list[Table]
    section: Section

    @property
    def shown(self) -> list[Table]:
        """All tables: ours, what the norms learned, then the published ones."""
        ours = [table for table in self.tables if table.ours]
        return [*ours, *self.learned, *(table for table in self.tables if not table.ours)]


@dataclass
class Figure:
    """A drawn figure. `caption` says what is to be seen; `files`: its bytes by format."""

    name: str
    caption: str
    files: dict[str, bytes]


@dataclass
class Document:
    """The report of an experiment. `left`: for each figure that was not drawn, why."""

    experiment: Experiment
    frames: Frames
    parts: list[Part]
    figures: list[Figure] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
