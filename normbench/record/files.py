"""Files that are whole or not there, what is left of those that were not, and what cannot be read."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from normbench.errors import DiskError

LOCK = ".lock"  # in the folder of a run: whoever trains it holds it
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CANNOT_WRITE = (*NO_ROOM, errno.EROFS)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """The whole content or nothing: written aside, then moved into place. durable: not before it is
    on the disk. OSError where it cannot be written, and nothing is left of it."""
    with aside(path, content, durable=durable) as whole:
        os.replace(whole, path)


@contextmanager
def aside(path: Path, content: str | bytes, *, durable: bool = False) -> Iterator[Path]:
    """A file beside `path` with the whole content, to be moved away; at the end it is gone."""
    file = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with file.open("wb") as out:
            out.write(data)
            out.flush()
            if durable:
                os.fsync(out.fileno())
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def append(path: Path, content: bytes, *, durable: bool = False) -> None:
    """The whole content at the end of a file, or nothing of it. OSError where it cannot be written."""
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        data = memoryview(content)
        try:
            while data:
                data = data[file.write(data) :]
            if durable:
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process had not yet moved into place. The folder must be held."""
    for file in folder.glob("*.tmp"):
        file.unlink(missing_ok=True)


def held(folder: Path) -> bool:
    """Whether a process trains the run in this folder now."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a folder that cannot be written: its own run says so
        return False
    lock.release()
    return False


def set_aside(path: Path) -> Path:
    """Calls a file that cannot be read NAME.bad, or NAME.2.bad and so on; its new path."""
    for number in itertools.count(1):
        bad = path.with_name(f"{path.name}.bad" if number == 1 else f"{path.name}.{number}.bad")
        if not os.path.lexists(bad):
            os.replace(path, bad)
            return bad
    raise AssertionError


@contextmanager
def on_disk(folder: Path) -> Iterator[None]:
    """DiskError, in one line, where a file of the folder cannot be read or written for want of room
    or of permission; what the user's own code raises about other files stays as it is."""
    try:
        yield
    except OSError as error:
        if not (error.errno in CANNOT_WRITE or is_in(error.filename, folder)):
            raise
        way = "make room" if error.errno in NO_ROOM else "mend that, or say another results=…"
        raise DiskError(
            f"{error.filename or folder}: {error.strerror or error}; {way},"
            " and the same command goes on from the last checkpoint"
        ) from error


def is_in(name: object, folder: Path) -> bool:
    """Whether an OSError names a file of the folder."""
    if not isinstance(name, str | os.PathLike):
        return False
    return Path(os.path.abspath(name)).is_relative_to(os.path.abspath(folder))
