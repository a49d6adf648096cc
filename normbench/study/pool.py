"""Runs cells in processes of their own, as many at a time as there are slots, and shows how it goes."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess

from rich.console import Console
from rich.live import Live
from rich.table import Table

from normbench.record.display import clock
from normbench.record.record import record_of, write_record
from normbench.study.jobs import Job
from normbench.study.plan import Slots, seconds_left
from normbench.study.worker import work


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


def run_cells(jobs: Sequence[Job], slots: Slots, console: Console) -> dict[str, list[Job]]:
    """Trains the cells that are not done. By outcome: done before, done, invalid, failed.

    KeyboardInterrupt stops all cells, each after its last checkpoint, and is raised again.
    """
    ends: dict[str, list[Job]] = {"before": [], "done": [], "invalid": [], "failed": []}
    waiting = []
    for job in jobs:
        state = job.state()
        if state in ("done", "invalid"):
            ends["before" if state == "done" else "invalid"].append(job)
        else:
            waiting.append(job)
    if ends["before"]:
        console.print(f"{len(ends['before'])} of {len(jobs)} cells are done already")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["normbench.training.run"])
    running: list[Running] = []
    notes: Counter[str] = Counter()
    with live_table(console, running) as live:
        try:
            while waiting or running:
                while waiting and len(running) < len(slots.devices):
                    running.append(start(context, waiting.pop(0), slots, running))
                listen(running)
                for one in [one for one in running if one.end is not None]:
                    running.remove(one)
                    finish(one, ends)
                    notes.update(one.notes)
                    say(console, one, ends, jobs, len(slots.devices))
                live.update(table(running))
        except BaseException:
            stop(running)
            raise
    say_notes(console, notes)
    return ends


def gpus(device: str) -> int:
    """How many GPUs cells may run on: 0 where `device` or the machine says the CPU."""
    if device == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()


def start(
    context: multiprocessing.context.ForkServerContext,
    job: Job,
    slots: Slots,
    running: Sequence[Running],
) -> Running:
    """The cell in a fresh process, on a device that has a free slot."""
    free = list(slots.devices)
    for one in running:
        free.remove(one.device)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(job.cell, free[0], slots.threads, theirs))
    process.start()
    theirs.close()
    return Running(job, free[0], process, ours)


def listen(running: Sequence[Running]) -> None:
    """Takes what the cells have said, waiting half a second at most."""
    for ready in connection.wait([one.pipe for one in running], timeout=0.5):
        one = next(one for one in running if one.pipe is ready)
        try:
            message = one.pipe.recv()
        except (EOFError, OSError):  # it died without a last word
            one.process.join()
            code = one.process.exitcode or 0
            how = f"signal {-code} (9: out of memory, perhaps)" if code < 0 else f"exit code {code}"
            one.end = "died", f"the process was ended by {how}"
            continue
        if message[0] == "at":
            one.at = message[1:]
        elif message[0] == "note":
            one.notes.append(message[1])
        else:
            one.end = message
            one.process.join()


def finish(one: Running, ends: dict[str, list[Job]]) -> None:
    """Puts the cell under its outcome; a process that was killed gets the record it could not write."""
    assert one.end is not None and one.job.cell is not None
    kind, words = one.end
    one.pipe.close()
    if kind == "done":
        ends["done"].append(one.job)
        return
    cell = one.job.cell
    if kind == "died" and one.job.record() is None and cell.folder.is_dir():
        write_record(cell.folder, record_of(cell, "failed", [], error=words))
    ends["invalid" if kind == "invalid" else "failed"].append(
        Job(one.job.overrides, None if kind == "invalid" else cell, words)
    )


def stop(running: Sequence[Running]) -> None:
    """Ends all processes: asked first, killed after ten seconds."""
    for one in running:
        one.process.terminate()
    for one in running:
        one.process.join(10)
        if one.process.is_alive():
            one.process.kill()
            one.process.join()


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
