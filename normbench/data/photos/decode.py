"""Image files to upright RGB, in worker processes. This module imports neither torch nor a run.

Grey, palette, CMYK, 16-bit and transparent images become RGB; EXIF rotations are undone. What
cannot be decoded is a Fault with its reason, never an exception.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, forkserver, parent_process
from types import TracebackType
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from normbench import machine, signals
from normbench.errors import FailedError, UserError

Bytes = NDArray[np.uint8]
MOST_PIXELS = 2**26  # of an image: 200 MB decoded; more is no photograph, and may be a bomb
THINNEST = 32  # times longer than wide: a fault, as it would be resized to a ribbon
GRACE = 20  # seconds
IN_FLIGHT = 4  # tasks a process has been given and not finished


class Place(NamedTuple):
    """Where the bytes of an image lie."""

    path: str
    offset: int
    size: int


class Fault(NamedTuple):
    """Why an image is left out, in a few words."""

    reason: str


def decode(place: Place) -> Image.Image | Fault:
    """The image, upright, in RGB."""
    try:
        with open(place.path, "rb") as file:
            file.seek(place.offset)
            data = file.read(place.size)
    except OSError as error:
        return Fault(f"cannot be read: {error.strerror or error}")
    if not data:
        return Fault("empty")
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if image.width * image.height > MOST_PIXELS:  # said by the header; nothing is decoded yet
            return Fault(f"{image.width} × {image.height} pixels, more than {MOST_PIXELS:,}")
        image.load()
        turn_upright(image)
        image = to_rgb(image)
    except UnidentifiedImageError:
        return Fault("not an image")
    except Exception as error:  # libraries say of broken files what they like
        return Fault(" ".join(str(error).split()) or type(error).__name__)
    short, long = sorted(image.size)
    if short < 2 or long > THINNEST * short:
        return Fault(f"{image.width} × {image.height} pixels")
    return image


def turn_upright(image: Image.Image) -> None:
    """In place, as its EXIF orientation says it is to be seen; broken EXIF says nothing."""
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB without transparency: the colours of transparent pixels as they are stored."""
    if image.mode.startswith("I"):  # 16 bits of grey
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode == "P":
        image = image.convert("RGBA")  # its palette may have transparency
    return image if image.mode == "RGB" else image.convert("RGB")


def resized(image: Image.Image, side: int) -> Image.Image:
    """The shorter side at `side` pixels, antialiased bilinear, as torchvision's Resize."""
    short, long = sorted(image.size)
    if short == side:
        return image
    other = side * long // short
    size = (side, other) if image.width < image.height else (other, side)
    return image.resize(size, Image.Resampling.BILINEAR)


class Request(NamedTuple):
    """Crops for `cut`: of each place the box (left, top, width, height, mirrored or not).

    `side`: the image is resized to it first, and the box is of that; then the box to `size`.
    """

    places: list[tuple[str, int, int]]
    boxes: list[list[int]]
    side: int | None
    size: int


def cut(request: Request) -> Bytes:
    """The crops [B, size, size, 3]. FailedError for a file that could be decoded before."""
    crops = np.empty((len(request.places), request.size, request.size, 3), np.uint8)
    for i, (place, box) in enumerate(zip(request.places, request.boxes, strict=True)):
        image = decode(Place(*place))
        if isinstance(image, Fault):
            raise FailedError(f"{place[0]} could be decoded and now cannot: {image.reason}")
        if request.side is not None:
            image = resized(image, request.side)
        left, top, width, height, flip = box
        image = image.crop((left, top, left + width, top + height))
        if (width, height) != (request.size, request.size):
            image = image.resize((request.size, request.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        crops[i] = pixels[:, ::-1] if flip else pixels
    return crops


Task = TypeVar("Task")
Result = TypeVar("Result")


def refuse_to_begin_twice() -> None:
    """UserError in a worker that runs the script of its parent again, from its top."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            "images are decoded by processes that read your script again: put what it does below"
            " `if __name__ == '__main__':`"
        )


class Decoders:
    """Worker processes that apply functions; they end with the process that made them."""

    def __init__(self, processes: int) -> None:
        refuse_to_begin_twice()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with signals.blocked():
            forkserver.ensure_running()
        self.processes = processes
        self.pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results in the order of the tasks, a few of which are always under way."""
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self.pool.submit(function, task))
                if len(waiting) >= IN_FLIGHT * self.processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise FailedError(
                "a process that decodes images was ended from outside (out of memory, perhaps);"
                " set NORMBENCH_DECODERS to fewer processes"
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _begin() -> None:
    """In a new worker: signals are the parent's business, and so is an untimely end.

    SIGTERM, which may be meant for the parent too, ends it when the parent had time for its step.
    """
    for number in signals.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    signals.unblock()
    warnings.simplefilter("ignore")  # of broken EXIF, and of very large images
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def cores() -> int:
    """How many processes decode: NORMBENCH_DECODERS, else one for each core of this process."""
    if named := os.environ.get("NORMBENCH_DECODERS"):
        if not named.isdecimal() or int(named) < 1:
            raise UserError(f"NORMBENCH_DECODERS={named}: must be a whole number, at least 1")
        return int(named)
    return machine.cores()
