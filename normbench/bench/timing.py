"""Times of contenders that take turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

K = TypeVar("K", bound=Hashable)
Parts = tuple[float, ...]  # seconds of each part of one call
Contender = Callable[[], Parts]
WARM_UP = 3  # calls before the first that counts
TURN = 0.02  # seconds of a contender's turn in a round, at least
REPLAYS = 20  # of a graph between two events, so that launching it from Python costs nothing


@dataclass(frozen=True)
class Times:
    """Seconds: of each part the median over rounds; of the whole the median and the quartiles."""

    parts: Parts
    whole: float
    low: float
    high: float


def keep_freed_memory() -> None:
    """Has glibc keep what is freed, as it does in a training that has run for a while.

    Otherwise each tensor of some MB comes as fresh pages, whose faults cost more than a layer does
    and come and go with the history of the process. Elsewhere than on glibc it does nothing.
    """
    trim_threshold, mmap_threshold, most = -1, -3, 32 << 20  # of malloc.h; glibc's own limit
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, most)
        mallopt(trim_threshold, 2**31 - 1)


class Stopwatch:
    """`laps` gives the seconds between calls of `lap`; on CUDA by events, without waiting between."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.marks: list[float | torch.cuda.Event] = []

    def lap(self) -> None:
        if not self.cuda:
            self.marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self.marks.append(event)

    def laps(self) -> Parts:
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        self.marks = []
        if not self.cuda:
            return tuple(b - a for a, b in pairs)  # type: ignore[operator]
        torch.cuda.synchronize()
        return tuple(a.elapsed_time(b) / 1000 for a, b in pairs)  # type: ignore[union-attr,arg-type]


class Replayed:
    """A contender of CUDA graphs: REPLAYS replays of each between two events; seconds of one pass.

    replays: each does what the one before it does, and more, `passes` times; what is more is a part.
    """

    def __init__(
        self, replays: Sequence[Callable[[], object]], passes: int, device: torch.device
    ) -> None:
        self.replays, self.watch = replays, Stopwatch(device)
        self.passes = REPLAYS * passes

    def __call__(self) -> Parts:
        self.watch.lap()
        for replay in self.replays:
            for _ in range(REPLAYS):
                replay()
            self.watch.lap()
        each = [seconds / self.passes for seconds in self.watch.laps()]
        return tuple(b - a for a, b in zip([0.0, *each], each, strict=False))


def interleaved(contenders: Mapping[K, Contender], rounds: int) -> dict[K, Times]:
    """Every contender once a round for a turn of `TURN` seconds or one call; its times by name.

    A round's number is the mean of the calls of a turn; what is reported is the median over rounds.
    """
    names = list(contenders)
    calls = {name: calls_in_a_turn(contenders[name]) for name in names}
    seen: dict[K, list[Parts]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)  # another one begins each round
        for name in names[first:] + names[:first]:
            turn = [contenders[name]() for _ in range(calls[name])]
            seen[name].append(tuple(sum(part) / len(turn) for part in zip(*turn, strict=True)))
    return {name: times(rows) for name, rows in seen.items()}


def calls_in_a_turn(contender: Contender) -> int:
    for _ in range(WARM_UP):
        seconds = sum(contender())
    passes = contender.passes if isinstance(contender, Replayed) else 1
    return max(1, round(TURN / max(seconds * passes, 1e-7)))


def times(rows: list[Parts]) -> Times:
    wholes = [sum(row) for row in rows]
    low, _, high = statistics.quantiles(wholes, n=4) if len(wholes) > 1 else wholes * 3
    parts = tuple(statistics.median(part) for part in zip(*rows, strict=True))
    return Times(parts, statistics.median(wholes), low, high)
