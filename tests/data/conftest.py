"""A small CIFAR-10 in the authors' layout, in the catalogue, behind a web server of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normbench.data.download import catalogue, transfer

IMAGES = 6  # in each file


class Site(http.server.ThreadingHTTPServer):
    """Serves `content` by path; `cut` is the bytes sent before the connection is closed."""

    content: dict[str, bytes]
    asked: list[tuple[str, str | None]]
    cut: int | None = None
    once = False  # each path is gone when it was sent once
    ranges = True
    delay = 0.0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, wanted = self.server, self.headers.get("Range")
        site.asked.append((self.path, wanted))
        time.sleep(site.delay)
        if self.path not in site.content:
            self.send_error(404)
            return
        body, start = site.content[self.path], 0
        if wanted and site.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if site.once:
            del site.content[self.path]
        self.wfile.write(body[start:][: site.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site(("127.0.0.1", 0), Handler)
    server.content, server.asked = {}, []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@dataclasses.dataclass
class Small:
    """The small dataset: what is in each file, the archive, and its place in the catalogue."""

    contents: dict[str, bytes]
    archive: bytes
    entry: catalogue.Entry
    use: Callable[..., None]  # put it into the catalogue with these fields of Archive


def tar_gz(contents: dict[str, bytes], folder: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def pack() -> Callable[[dict[str, bytes], str], bytes]:
    return tar_gz


@pytest.fixture
def small(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, site: Site
) -> Small:
    """In the catalogue as cifar10, at /a.tar.gz of the site; no npm, no own source, empty cache."""
    for name in ("NORMBENCH_SOURCE", "NORMBENCH_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    random = np.random.default_rng(0)
    real = catalogue.CIFAR10
    contents = {}
    for file in real.files:
        records = random.integers(0, 256, (IMAGES, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        contents[file.name] = records.tobytes()
    archive = tar_gz({"batches.meta.txt": b"airplane\n", **contents}, real.folder)

    def resum(files: tuple[catalogue.File, ...]) -> tuple[catalogue.File, ...]:
        return tuple(
            catalogue.File(f.name, len(contents[f.name]), _sum(contents[f.name])) for f in files
        )

    where = catalogue.Archive("a.tar.gz", _sum(archive), (site.url("/a.tar.gz"),))
    entry = dataclasses.replace(real, train=resum(real.train), test=resum(real.test), archive=where)

    def use(**fields: object) -> None:
        changed = dataclasses.replace(where, **fields)  # type: ignore[arg-type]
        known = dataclasses.replace(entry, archive=changed)
        monkeypatch.setitem(catalogue.DATASETS, "cifar10", known)

    use()
    site.content["/a.tar.gz"] = archive
    return Small(contents, archive, entry, use)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def left() -> Callable[[Path], list[str]]:
    """All that lies below a folder, less lock files, as sorted relative paths."""

    def names(folder: Path) -> list[str]:
        found = (p for p in folder.rglob("*") if p.suffix != ".lock")
        return sorted(str(p.relative_to(folder)) for p in found)

    return names


Photos = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Photos:
    """`photos({"train/a": 3, "val/a": 1})`: a folder of so many smooth JPEGs; a cache of its own."""
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("NORMBENCH_DECODERS", "1")

    def make(
        counts: dict[str, int], size: tuple[int, int] = (40, 30), root: str = "photos"
    ) -> Path:
        chance = np.random.default_rng(0)
        folder = tmp_path / root
        for place, count in counts.items():
            (folder / place).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                small = chance.integers(0, 256, (4, 5, 3), dtype=np.uint8)
                image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
                image.save(folder / place / f"{i}.jpg", quality=95)
        return folder

    return make


@pytest.fixture
def tar_of() -> Callable[[Path], Path]:
    """A plain tar of a folder, beside it."""

    def make(folder: Path) -> Path:
        path = folder.with_suffix(".tar")
        with tarfile.open(path, "w") as tar:
            tar.add(folder, arcname=".")
        return path

    return make
