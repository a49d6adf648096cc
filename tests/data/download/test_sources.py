"""Downloads from a web server of this machine: whole, cut, wrong, in turn, once, and not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from normbench.data.download import sources
from normbench.data.download.catalogue import CIFAR10
from normbench.errors import FailedError

Left = Callable[[Path], list[str]]
FOLDER = CIFAR10.folder
FILES = sorted(f"{FOLDER}/{file.name}" for file in CIFAR10.files)


def assert_complete(root: Path, small: Any, left: Left) -> None:
    """All files with their content, and nothing beside them."""
    assert left(root) == [FOLDER, *FILES]
    for name, data in small.contents.items():
        assert (root / FOLDER / name).read_bytes() == data


def failure(root: Path, **options: Any) -> str:
    """The message of the FailedError, which is one line."""
    with pytest.raises(FailedError) as error:
        sources.ensure("cifar10", root=root, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_download_into_a_root_and_then_no_more(
    small: Any, site: Any, tmp_path: Path, left: Left
) -> None:
    assert sources.ensure("cifar10", root=tmp_path) == tmp_path / FOLDER
    assert_complete(tmp_path, small, left)
    sources.ensure("cifar10", root=tmp_path)
    assert site.asked == [("/a.tar.gz", None)]


def test_root_may_be_the_folder_itself(small: Any, tmp_path: Path, left: Left) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    assert sources.ensure("cifar10", root=folder) == folder
    assert_complete(tmp_path, small, left)


def test_without_a_root_files_go_to_the_cache(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left
) -> None:
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path / "new" / "cache"))
    sources.ensure("cifar10")
    assert_complete(tmp_path / "new" / "cache", small, left)


def test_a_cut_transfer_goes_on_where_it_ended(
    small: Any, site: Any, tmp_path: Path, left: Left
) -> None:
    site.cut = len(small.archive) // 3 + 1
    sources.ensure("cifar10", root=tmp_path)
    assert_complete(tmp_path, small, left)
    ranges = [None, f"bytes={site.cut}-", f"bytes={2 * site.cut}-"]
    assert [asked for _, asked in site.asked] == ranges


def test_a_later_call_goes_on_with_the_part_of_an_earlier_one(
    small: Any, site: Any, tmp_path: Path, left: Left
) -> None:
    site.cut, site.once = len(small.archive) // 2 + 1, True
    assert "/a.tar.gz: HTTP 404" in failure(tmp_path)
    (part,) = left(tmp_path)
    assert part.endswith(".part")
    assert (tmp_path / part).read_bytes() == small.archive[: site.cut]
    site.content["/a.tar.gz"] = small.archive
    sources.ensure("cifar10", root=tmp_path)
    assert_complete(tmp_path, small, left)
    assert site.asked[-1] == ("/a.tar.gz", f"bytes={site.cut}-")


def test_a_transfer_that_brings_nothing_ends(
    small: Any, site: Any, tmp_path: Path, left: Left
) -> None:
    site.cut = 0
    message = failure(tmp_path)
    assert f"/a.tar.gz: cut after 0 of {len(small.archive)} bytes" in message
    assert not [name for name in left(tmp_path) if not name.endswith(".part")]


@pytest.mark.parametrize("sent", ["other", "cut", "page"])
def test_wrong_content_leaves_nothing(
    sent: str, small: Any, site: Any, tmp_path: Path, left: Left, pack: Any
) -> None:
    other = pack({**small.contents, "data_batch_1.bin": bytes(6 * 3073)}, FOLDER)
    half = small.archive[: len(small.archive) // 2]
    site.content["/a.tar.gz"] = {"other": other, "cut": half, "page": b"<html>"}[sent]
    message = failure(tmp_path)
    assert site.url("/a.tar.gz") + ": the SHA-256 of what came is not" in message
    assert left(tmp_path) == []


def test_mirrors_follow_in_their_order(small: Any, site: Any, tmp_path: Path, left: Left) -> None:
    paths = ["/gone.tar.gz", "/wrong.tar.gz", "/right.tar.gz", "/never.tar.gz"]
    site.content = {"/wrong.tar.gz": b"wrong", "/right.tar.gz": small.archive}
    small.use(urls=tuple(site.url(path) for path in paths))
    sources.ensure("cifar10", root=tmp_path)
    assert [path for path, _ in site.asked] == paths[:3]
    assert_complete(tmp_path, small, left)


def test_the_error_names_files_sources_reasons_and_the_way_out(
    small: Any, site: Any, tmp_path: Path
) -> None:
    small.use(urls=(site.url("/gone.tar.gz"), "http://127.0.0.1:1/refused.tar.gz"))
    message = failure(tmp_path, source=str(tmp_path / "no.tar.gz"))
    for part in (
        "data_batch_1.bin, data_batch_2.bin",
        f"{tmp_path}/no.tar.gz: [Errno 2] No such file",
        f"{site.url('/gone.tar.gz')}: HTTP 404",
        "Connection refused",
        "dataset.source or NORMBENCH_SOURCE",
        "dataset=cifar10_5k",
    ):
        assert part in message


@pytest.mark.parametrize("form", ["archive", "folder", "file URL", "URL", "folder URL"])
def test_ones_own_source_comes_first(
    form: str, small: Any, site: Any, tmp_path: Path, left: Left, pack: Any
) -> None:
    mine = tmp_path / "mine" / "a.tar.gz"
    mine.parent.mkdir()
    mine.write_bytes(pack(small.contents, "packed/anew"))  # the sums of the files decide
    site.content["/mine/a.tar.gz"] = mine.read_bytes()
    root = tmp_path / "root"
    root.mkdir()
    source = {
        "archive": str(mine),
        "folder": str(mine.parent),
        "file URL": mine.as_uri(),
        "URL": site.url("/mine/a.tar.gz?download=1"),
        "folder URL": site.url("/mine/"),
    }[form]
    site.content["/mine/a.tar.gz?download=1"] = mine.read_bytes()
    sources.ensure("cifar10", root=root, source=source)
    assert_complete(root, small, left)
    assert all(path.startswith("/mine/") for path, _ in site.asked)
    assert mine.exists()


def test_own_source_by_environment_follows_the_one_given(
    small: Any, site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.content = {"/second/a.tar.gz": small.archive}
    monkeypatch.setenv("NORMBENCH_SOURCE", site.url("/second"))
    sources.ensure("cifar10", root=tmp_path, source=site.url("/first"))
    assert [path for path, _ in site.asked] == ["/first/a.tar.gz", "/second/a.tar.gz"]


@pytest.mark.parametrize("broken", ["other size", "other bytes", "no file", "cut", "no archive"])
def test_a_broken_source_of_ones_own_is_named_and_the_next_taken(
    broken: str, small: Any, site: Any, tmp_path: Path, left: Left, pack: Any
) -> None:
    contents = dict(small.contents)
    if broken == "no file":
        del contents["test_batch.bin"]
    elif broken.startswith("other"):
        contents["test_batch.bin"] = bytes(6 * 3073 if broken == "other bytes" else 5)
    mine = pack(contents, FOLDER)
    mine = {"cut": mine[:-2000], "no archive": b"text"}.get(broken, mine)
    site.content["/mine.tgz"] = mine
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "mine.tgz").write_bytes(mine)
    for source in (site.url("/mine.tgz"), str(tmp_path / "mine.tgz")):
        small.use(urls=())
        message = failure(root, source=source)
        reason = {
            "other size": "test_batch.bin has 5 bytes, not 18438",
            "other bytes": "its test_batch.bin has a wrong SHA-256",
            "no file": "no test_batch.bin in it",
        }.get(broken, "mine.tgz: ")
        assert reason in message
        assert left(root) == []
    small.use()
    sources.ensure("cifar10", root=root, source=source)
    assert_complete(root, small, left)


def test_offline_asks_no_one(
    small: Any, site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left
) -> None:
    small.use(npm="some@1.2.3")
    monkeypatch.setenv("NORMBENCH_OFFLINE", "1")
    message = failure(tmp_path, source=site.url("/a.tar.gz"))
    assert "NORMBENCH_OFFLINE is set" in message
    assert "npm" not in message
    assert site.asked == []
    assert left(tmp_path) == []
    mine = tmp_path / "a.tgz"
    mine.write_bytes(small.archive)
    sources.ensure("cifar10", root=tmp_path, source=str(mine))
    assert site.asked == []


def test_those_who_ask_at_once_download_once(
    small: Any, site: Any, tmp_path: Path, left: Left
) -> None:
    site.delay = 0.2
    threads = [
        threading.Thread(target=sources.ensure, args=("cifar10",), kwargs={"root": tmp_path})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.asked) == 1
    assert_complete(tmp_path, small, left)


def test_a_complete_folder_that_cannot_be_written_is_enough(
    small: Any, site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.ensure("cifar10", root=tmp_path)
    before = sorted(tmp_path.rglob("*"))

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "FileLock", refuse)
    sources.ensure("cifar10", root=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / FILES[0]).unlink()
    assert "cannot write cifar10" in failure(tmp_path)
    assert "NORMBENCH_DATA" in failure(tmp_path)


def test_what_a_killed_process_left_goes(small: Any, tmp_path: Path, left: Left) -> None:
    (tmp_path / FOLDER / ".incoming" / "deep").mkdir(parents=True)
    (tmp_path / FOLDER / ".incoming" / "test_batch.bin").write_bytes(b"half")
    sources.ensure("cifar10", root=tmp_path)
    assert_complete(tmp_path, small, left)
