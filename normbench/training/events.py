"""The event file of a run: each step once, however often the run was interrupted.

TensorBoard's own writer writes from a thread, leaves what an interrupted process wrote, and cannot take
back half an epoch where the disk is full; here a flush is whole or not there.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from normbench.record.files import append, write_atomically

POSITIVE = 1e-12 * 1.1 ** np.arange(775)  # up to 1e20, as SummaryWriter has them
BINS = [*-POSITIVE[::-1], 0.0, *POSITIVE]


class EventFile:
    """One file in `folder`. Takes over what earlier files hold of steps 1 to `steps`, and removes
    them: what they say of later steps, of no step, or of the result, is written anew."""

    def __init__(self, folder: Path, steps: int) -> None:
        old = sorted(path for path in folder.glob("events.out.tfevents.*") if path.is_file())
        self.buffer = io.BytesIO()
        self.records = RecordWriter(self.buffer)
        self.write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if old:  # a TensorBoard that has read them forgets them
            start = SessionLog(status=SessionLog.START)
            self.write(Event(wall_time=time.time(), step=1, session_log=start))
        for event in kept(old, steps).values():
            self.write(event)
        self.path = free_name(folder)
        write_atomically(self.path, self.buffer.getvalue())
        self.buffer.seek(0)
        self.buffer.truncate()
        for path in old:
            path.unlink()

    def write(self, event: Event) -> None:
        self.records.write(event.SerializeToString())

    def add_summary(self, some: Summary, step: int = 0) -> None:
        self.write(Event(wall_time=time.time(), step=step, summary=some))

    def add_scalar(self, tag: str, value: Any, step: int) -> None:
        self.add_summary(summary.scalar(tag, value), step)  # type: ignore[no-untyped-call]

    def add_histogram(self, tag: str, values: Any, step: int) -> None:
        made = summary.histogram(tag, values.cpu().numpy(), BINS)  # type: ignore[no-untyped-call]
        self.add_summary(made, step)

    def flush(self) -> None:
        """What was added since the last flush is written, all of it or nothing."""
        append(self.path, self.buffer.getvalue())
        self.buffer.seek(0)
        self.buffer.truncate()


def kept(files: list[Path], steps: int) -> dict[tuple[str, int], Event]:
    """The events of steps 1 to `steps`, of each tag and step the last one."""
    found: dict[tuple[str, int], Event] = {}
    for path in files:
        for event in events_of(path):
            for value in event.summary.value:
                if 0 < event.step <= steps and not value.tag.startswith("result/"):
                    one = Event(wall_time=event.wall_time, step=event.step)
                    one.summary.value.append(value)
                    found[value.tag, event.step] = one
    return dict(sorted(found.items(), key=lambda item: item[0][1]))


def events_of(path: Path) -> Iterator[Event]:
    """The events of a file, as far as it can be read."""
    try:
        yield from LegacyEventFileLoader(str(path)).Load()
    except Exception:  # the reader raises nearly anything of a damaged file
        return


def free_name(folder: Path) -> Path:
    """A file name as TensorBoard looks for it, behind those that are there."""
    base = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
    number = 0
    while (path := folder / f"{base}.{number}").exists():
        number += 1
    return path
