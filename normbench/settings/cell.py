"""A cell: checked settings, the folder of the run, and whether it stands for other cells too."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from normbench.norms.registry import per_image
from normbench.settings.identity import identity, source_of
from normbench.settings.schema import Evaluate, Settings


@dataclass(frozen=True)
class Cell:
    """One run, trained or not. Made by `cell_of` alone.

    folder: where the run is written. per_image: whether its norm treats each image by itself.
    source: the text of the file of the user's own norm, as it was when the cell was made.
    """

    settings: Settings
    folder: Path
    per_image: bool
    source: str | None = None

    @property
    def shared(self) -> bool:
        """Whether the run stands for every batch of the fixed protocol."""
        return is_shared(self.settings, self.per_image)

    @property
    def identity(self) -> str:
        """The hash of what decides the result: the last part of the folder's name."""
        return self.folder.name.rpartition("-")[2]


def cell_of(settings: Settings) -> Cell:
    """The cell of settings; settings with the same result by construction have the same cell.

    Reads what the identity depends on (the file of the user's own norm, the names in a folder of
    images) once: an edit afterwards makes another cell, and leaves this one as it is. Raises
    UserError where the user's own norm cannot be imported.
    """
    by_itself = per_image(settings.norm.name, settings.norm.options)
    if is_shared(settings, by_itself):
        settings = dataclasses.replace(
            settings, batch=settings.sgd_batch, workers=1, evaluate=Evaluate("running")
        )
    s = settings
    own = s.norm.name == "custom"
    source = source_of(str(s.norm.options.get("target"))) if own else None
    name = f"{s.norm_label}-b{s.batch}x{s.workers}-s{s.seed}-{identity(s, source)}"
    network = f"{s.model.label}-{s.dataset.label}"
    return Cell(s, Path(s.results) / "runs" / s.study / network / name, by_itself, source)


def is_shared(settings: Settings, by_itself: bool) -> bool:
    """Whether every batch of the fixed protocol gives this result: the norm treats each image by
    itself, in all stages, and so neither the batch nor precise statistics change anything."""
    return by_itself and settings.protocol == "fixed" and settings.norm_stages is None
