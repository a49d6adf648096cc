"""A cell in its process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess

from normbench.study.jobs import Job


@dataclass
class Running:
    """A cell in its process."""

    job: Job
    device: int | None
    process: ForkServerProcess
    pipe: connection.Connection
    begin: float = field(default_factory=time.perf_counter)
    at: tuple[float, int, str] = (0.0, 1, "starting")
    end: tuple[str, str] | None = None  # how it ended, and a line
    notes: list[str] = field(default_factory=list)  # what its user should know
    asked: bool = False  # to stop
