"""One file over HTTP into a `.part` file that a later call continues."""

from __future__ import annotations

import http.client
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT = 30.0  # seconds without a byte
PAUSE = 1.0  # seconds before a transfer that was cut goes on
CHUNK = 1 << 20  # bytes
GRACE = 20.0  # seconds before a source is judged by its speed
FLOOR = 200 * 1024  # bytes a second: below it, the next source is tried first


class UnavailableError(Exception):
    """A source did not give its files; the message is the reason, in a few words."""


def download(url: str, part: Path, *, patient: bool = True) -> None:
    """All of `url` in `part`, continuing what is there. UnavailableError if it does not come whole.

    A cut transfer goes on for as long as each request brings more. What came stays in `part` for
    the next call. One who is not patient leaves a source that is slower than FLOOR. The content is
    not checked here.
    """
    while True:
        before = _size(part)
        try:
            _continue(url, part, patient)
            return
        except (OSError, http.client.HTTPException) as error:
            if _size(part) <= before:
                raise UnavailableError(_reason(error)) from error
        time.sleep(PAUSE)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _continue(url: str, part: Path, patient: bool) -> None:
    """One request for what is missing of `url`, appended to `part`."""
    have = _size(part)
    headers = {"User-Agent": "normbench"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        reply = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return  # nothing was missing
        if error.code == 416:
            part.unlink()
        raise
    with reply:
        start = have if _continues(reply, have) else 0
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length else None
        done = _copy(reply, part, start, total, url, patient)
    if total is not None and done != total:
        raise ConnectionError(f"cut after {done} of {total} bytes")


def _continues(reply: http.client.HTTPResponse, have: int) -> bool:
    """Whether the server sends what follows byte `have`, and not the whole file again."""
    sent = reply.headers.get("Content-Range", "")
    return reply.status == 206 and sent.startswith(f"bytes {have}-")


def _copy(
    reply: http.client.HTTPResponse,
    part: Path,
    start: int,
    total: int | None,
    url: str,
    patient: bool,
) -> int:
    """Write the reply to `part` from byte `start`; the bytes that `part` then has."""
    done, shown, began = start, 0.0, time.monotonic()
    with part.open("ab" if start else "wb") as file:
        while chunk := reply.read1(CHUNK):
            file.write(chunk)
            done += len(chunk)
            now = time.monotonic()
            if not patient and now - began > GRACE and done - start < FLOOR * (now - began):
                show("")
                raise UnavailableError(f"only {(done - start) / (now - began) / 1024:.0f} KiB/s")
            if now - shown > 0.2:
                show(f"{done >> 20} of {(total or 0) >> 20 or '?'} MiB from {url}")
                shown = now
    show("")
    return done


def show(line: str) -> None:
    """A line that replaces the one before it, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
