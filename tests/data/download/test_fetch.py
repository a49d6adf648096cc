"""`normbench fetch` as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from normbench.data.download.fetch import main
from normbench.data.download.sources import cache_root
from normbench.errors import FailedError, UserError


def test_fetch_then_verify(
    small: Any, site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = [f"root={tmp_path}"]
    assert main(["cifar10", *at]) == 0
    fetched = capsys.readouterr()
    assert fetched.out.count("  ok      ") == 6
    assert fetched.err == ""  # progress on a terminal only
    assert main(["--verify", "cifar10", *at]) == 0
    assert capsys.readouterr().out == fetched.out
    assert len(site.asked) == 1


def test_verify_says_which_file_is_what(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = [f"root={tmp_path}"]
    main(["cifar10", *at])
    folder = tmp_path / "cifar-10-batches-bin"
    (folder / "data_batch_1.bin").unlink()
    (folder / "data_batch_2.bin").write_bytes(b"short")
    changed = bytearray(small.contents["test_batch.bin"])
    changed[-1] ^= 1
    (folder / "test_batch.bin").write_bytes(changed)
    capsys.readouterr()
    assert main(["--verify", "cifar10", *at]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"cifar10 in {folder}"
    assert said[1:] == [
        "  missing data_batch_1.bin",
        "  damaged data_batch_2.bin",
        "  ok      data_batch_3.bin",
        "  ok      data_batch_4.bin",
        "  ok      data_batch_5.bin",
        "  damaged test_batch.bin",
    ]
    assert main(["cifar10", *at]) == 0  # fetch brings what is missing or damaged
    assert (folder / "test_batch.bin").read_bytes() == small.contents["test_batch.bin"]


def test_verify_of_all_counts_only_what_is_here(
    small: Any, site: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--verify"]) == 0
    said = capsys.readouterr().out
    assert "  ok      train.webp" in said
    assert "  missing data_batch_1.bin" in said
    assert main(["--verify", "cifar10"]) == 1
    assert site.asked == []


def test_a_dataset_that_is_partly_here_is_not_ok(small: Any, tmp_path: Path) -> None:
    main(["cifar10"])
    (cache_root() / "cifar-10-batches-bin" / "data_batch_5.bin").unlink()
    assert main(["--verify"]) == 1


def test_own_source(small: Any, site: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(small.archive)
    assert main(["cifar10", f"source={tmp_path}"]) == 0
    assert site.asked == []


def test_the_embedded_set_is_checked_and_not_fetched(
    small: Any, site: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cifar10_5k"]) == 0
    assert capsys.readouterr().out.count("  ok      ") == 2
    assert site.asked == []


def test_mistakes(small: Any, site: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        main(["cifar10", "cifr10"])
    assert site.asked == []  # not even the right one
    with pytest.raises(UserError, match="no such folder"):
        main(["cifar10", f"root={tmp_path / 'nowhere'}"])
    with pytest.raises(UserError, match="name a dataset, of cifar10_5k, cifar10"):
        main([])
    site.content.clear()
    with pytest.raises(FailedError, match="HTTP 404"):
        main(["cifar10"])
