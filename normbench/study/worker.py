"""The process of one cell: trains it and tells its parent how it goes, over a pipe."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from multiprocessing import connection, parent_process
from typing import TYPE_CHECKING

from normbench import signals
from normbench.errors import FailedError, HeldError, UserError
from normbench.record.record import Record, Row
from normbench.settings.cell import Cell, cell_of
from normbench.settings.schema import Settings

if TYPE_CHECKING:
    import torch


def work(
    cell: Cell, device: int | None, threads: int, pipe: connection.Connection, count: int = 1
) -> None:
    """Runs a cell; the last message is ("done" | "invalid" | "failed" | "held" | "stopped", text).

    On `count` devices from `device` on, by a process each. A signal stops it after the step, with a
    checkpoint; it is the parent that leaves at a second one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, with SIGTERM
    threading.Thread(target=die_with_parent, daemon=True).start()
    if device is not None:
        devices = range(device, device + count)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible(one) for one in devices)
    with hidden(), signals.heard(at_second=False):
        if count > 1:
            from normbench.study.ranks import launch

            ended = launch(cell, count, threads, pipe)
        else:
            ended = outcome(cell, threads, pipe)
        with signals.deferred(), contextlib.suppress(BrokenPipeError):
            pipe.send(ended)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """For its duration nothing is printed: the terminal belongs to the parent's table."""
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        yield


def outcome(cell: Cell, threads: int, pipe: connection.Connection) -> tuple[str, str]:
    """Trains the cell, if it is still what it was when it was planned; how it ended, and a line."""
    import torch

    from normbench.record.display import result
    from normbench.training.run import run

    try:
        signals.unblock()
        torch.set_num_threads(threads)
        if cell_of(cell.settings) != cell:
            raise UserError(
                "its own norm or folder of images has changed since the sweep began; the same"
                " command again trains it as it is now"
            )
        return "done", result(run(cell, PipeDisplay(pipe)))
    except UserError as error:
        return "invalid", " ".join(str(error).split())
    except HeldError:
        return "held", ""
    except FailedError as error:
        return "failed", " ".join(str(error).split())
    except KeyboardInterrupt:
        return "stopped", ""
    except BaseException as error:
        with contextlib.suppress(OSError):
            (cell.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return "failed", " ".join(f"{type(error).__name__}: {error}".split())


class PipeDisplay:
    """A display whose terminal is at the other end of a pipe: ("at", epochs done,
    epochs, words), and ("note", line)."""

    def __init__(self, pipe: connection.Connection) -> None:
        self.pipe = pipe
        self.words = ""

    def started(self, settings: Settings, parameters: int, device: torch.device, done: int) -> None:
        self.epochs, self.done = settings.epochs, done
        self.tell(float(done))

    def step(self, step: int, steps: int) -> None:
        self.tell(self.done + step / steps)

    def epoch(self, row: Row) -> None:
        from normbench.record.display import numbers

        self.done, self.words = row["epoch"], numbers(row)
        self.tell(float(self.done))

    def note(self, line: str) -> None:
        self.pipe.send(("note", line))

    def finished(self, cell: Cell, record: Record) -> None:
        pass

    def already_done(self, cell: Cell, record: Record) -> None:
        pass

    def tell(self, at: float) -> None:
        self.pipe.send(("at", at, self.epochs, self.words))


def die_with_parent() -> None:
    """A killed sweep leaves no cell running: the next one goes on from the checkpoint."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def visible(device: int) -> str:
    """The n-th of the devices that this process may see."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return allowed.split(",")[device] if allowed else str(device)
