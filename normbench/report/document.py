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


PANELS = ("both", "measured", "published")
WIDTHS = {"page": 7.2, "column": 3.5}  # inches: the text of two columns, one of them


@dataclass(frozen=True)
class View:
    """How the report shows what it found.

    measure: error or accuracy, in tables and figures; "": accuracies in tables, errors in figures.
    panels: of the figure of batch sizes: measured, published, both. width: of figures: page, column.
    """

    measure: str = ""
    panels: str = "both"
    width: str = "page"


@dataclass
class Document:
    """The report of an experiment. `left`: for each figure that was not drawn, why. `folders`: where
    each run's is, seen from the report's."""

    experiment: Experiment
    frames: Frames
    parts: list[Part]
    view: View = View()
    figures: list[Figure] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
