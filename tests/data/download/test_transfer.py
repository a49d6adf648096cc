"""One file over HTTP: what an earlier part is good for, with servers that differ; and the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from normbench.data.download import sources, transfer


def test_a_whole_part_is_not_sent_again(small: Any, site: Any, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(small.archive)
    transfer.download(site.url("/a.tar.gz"), part)
    assert part.read_bytes() == small.archive


def test_a_part_longer_than_the_file_is_thrown_away(small: Any, site: Any, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(small.archive + b"more")
    with pytest.raises(transfer.UnavailableError, match="HTTP 416"):
        transfer.download(site.url("/a.tar.gz"), part)
    transfer.download(site.url("/a.tar.gz"), part)
    assert part.read_bytes() == small.archive


def test_a_server_without_ranges_sends_all_again(small: Any, site: Any, tmp_path: Path) -> None:
    site.ranges = False
    part = tmp_path / "x.part"
    part.write_bytes(small.archive[:100])
    transfer.download(site.url("/a.tar.gz"), part)
    assert part.read_bytes() == small.archive


def test_a_slow_source_waits_until_the_others_have_failed(
    small: Any, site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "GRACE", 0.0)
    monkeypatch.setattr(transfer, "FLOOR", 1e12)
    monkeypatch.setattr(transfer, "CHUNK", 1000)
    small.use(urls=(site.url("/a.tar.gz"), site.url("/gone.tar.gz")))
    sources.ensure("cifar10", root=tmp_path)
    paths, ranges = zip(*site.asked, strict=True)
    assert paths == ("/a.tar.gz", "/gone.tar.gz", "/a.tar.gz")
    assert ranges == (None, None, "bytes=1000-")
    for name, data in small.contents.items():
        assert (tmp_path / "cifar-10-batches-bin" / name).read_bytes() == data


def test_places_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NORMBENCH_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sources.cache_root() == tmp_path / ".cache" / "normbench"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert sources.cache_root() == tmp_path / "xdg" / "normbench"
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path / "data"))
    assert sources.cache_root() == tmp_path / "data"
