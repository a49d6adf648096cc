"""What a sweep shows: one live table in a terminal, and one line for each cell that has ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from normbench.record.display import clock
from normbench.study.jobs import Job
from normbench.study.plan import seconds_left
from normbench.study.running import Running


def say(
    console: Console,
    one: Running,
    ends: dict[str, list[Job]],
    jobs: Sequence[Job],
    at_a_time: int,
) -> None:
    """One line for a cell that has ended."""
    assert one.end is not None
    count = sum(len(some) for some in ends.values())
    left = seconds_left(jobs, at_a_time)
    rest = f"; about {clock(left)} left" if left else ""
    kind, words = one.end
    shown = words if kind == "done" else f"{'failed' if kind == 'died' else kind}: {words}"
    console.print(f"[{count}/{len(jobs)}] {one.job.name}: {shown}{rest}", markup=False)


def say_waiting(console: Console, waiting: Sequence[Job]) -> bool:
    """That the cells which are left are trained by another process; True."""
    cells = f"{len(waiting)} cell{'s' * (len(waiting) > 1)}"
    console.print(f"another process trains the last {cells}; waiting for it", markup=False)
    return True


def say_notes(console: Console, notes: Counter[str]) -> None:
    """What the user should know of the cells, each line once, with the number of cells."""
    for line, count in notes.items():
        console.print(f"{count} {'cell' if count == 1 else 'cells'}: {line}", markup=False)


def live_table(console: Console, running: Sequence[Running]) -> Live:
    """The table of running cells; where there is no terminal it shows nothing."""
    options = {"redirect_stdout": False, "redirect_stderr": False, "transient": True}
    return Live(table(running), console=console, refresh_per_second=4, **options)  # type: ignore[arg-type]


def table(running: Sequence[Running]) -> Table:
    """The running cells, a row each."""
    rows = Table(box=None, pad_edge=False)
    for title in ("running", "epoch", "", "for"):
        rows.add_column(title, no_wrap=True)
    for one in running:
        at, epochs, words = one.at
        seconds = time.perf_counter() - one.begin
        rows.add_row(one.job.name, f"{at:.1f}/{epochs}", words, clock(seconds))
    return rows
