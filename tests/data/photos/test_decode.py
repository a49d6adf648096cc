"""Images of every kind become RGB; what is no image has a reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from normbench.data.photos.decode import Fault, Place, Request, cut, decode, resized
from normbench.errors import FailedError

WIDTH, HEIGHT = 24, 16


def smooth(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def place(path: Path) -> Place:
    return Place(str(path), 0, path.stat().st_size)


def saved(path: Path, image: Image.Image, **how: Any) -> Image.Image | Fault:
    image.save(path, **how)
    return decode(place(path))


def far(found: Image.Image | Fault, wanted: Image.Image) -> float:
    """The largest difference of a byte."""
    assert isinstance(found, Image.Image)
    assert found.mode == "RGB"
    pair = [np.asarray(image, dtype=np.int64) for image in (found, wanted)]
    return float(np.abs(pair[0] - pair[1]).max())


def test_rgb(tmp_path: Path) -> None:
    assert far(saved(tmp_path / "a.png", smooth()), smooth()) == 0
    assert far(saved(tmp_path / "a.jpg", smooth(), quality=95), smooth()) < 30


def test_a_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """9,000 × 9,000 pixels of one bit: a file of some kB that would be decoded to 240 MB."""
    path = tmp_path / "a.png"
    Image.new("1", (9_000, 9_000)).save(path)
    assert path.stat().st_size < 50_000
    monkeypatch.setattr(Image.Image, "load", None)  # it would fail if it were decoded
    found = decode(place(path))
    assert found == Fault("9000 × 9000 pixels, more than 67,108,864")


def test_grey(tmp_path: Path) -> None:
    grey = smooth().convert("L")
    assert far(saved(tmp_path / "a.png", grey), Image.merge("RGB", [grey] * 3)) == 0
    assert far(saved(tmp_path / "a.jpg", grey, quality=100), Image.merge("RGB", [grey] * 3)) < 4


def test_grey_of_16_bits(tmp_path: Path) -> None:
    deep = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 170
    wanted = Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
    assert far(saved(tmp_path / "a.png", Image.fromarray(deep)), wanted) == 0


def test_cmyk(tmp_path: Path) -> None:
    """Ink is the complement of light, and JPEG loses little."""
    assert far(saved(tmp_path / "a.jpg", smooth().convert("CMYK"), quality=100), smooth()) < 20


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    few = smooth().quantize(8)
    assert far(saved(tmp_path / "a.png", few), few.convert("RGB")) == 0
    clear = saved(tmp_path / "b.png", few, transparency=bytes([0, 128] + [255] * 6))
    assert far(clear, few.convert("RGB")) == 0


def test_transparent_pixels_keep_their_colours(tmp_path: Path) -> None:
    clear = smooth().convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 7))
    assert far(saved(tmp_path / "a.png", clear), smooth()) == 0


@pytest.mark.parametrize(
    ("orientation", "undone"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_270),
        (8, Image.Transpose.ROTATE_90),
    ],
)
def test_rotations_of_exif_are_undone(
    tmp_path: Path, orientation: int, undone: Image.Transpose
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert far(saved(tmp_path / "a.png", smooth(), exif=exif), smooth().transpose(undone)) == 0


def test_broken_exif_says_nothing(tmp_path: Path) -> None:
    broken = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
    assert far(saved(tmp_path / "a.png", smooth(), exif=broken), smooth()) == 0


def jpeg() -> bytes:
    buffer = io.BytesIO()
    smooth(200, 100).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"some text", "not an image"),
        (b"", "empty"),
        (jpeg()[:-500], "truncated"),
        (jpeg()[:100], ""),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), ""),
    ],
)
def test_what_is_no_image_has_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    found = decode(place(path))
    assert isinstance(found, Fault)
    assert reason in found.reason
    assert found.reason
    assert "\n" not in found.reason


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 65)])
def test_too_thin_to_be_a_photograph(tmp_path: Path, size: tuple[int, int]) -> None:
    found = saved(tmp_path / "a.png", Image.new("RGB", size))
    assert found == Fault(f"{size[0]} × {size[1]} pixels")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    found = decode(Place(str(tmp_path / "a.jpg"), 0, 10))
    assert found == Fault("cannot be read: No such file or directory")


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (20, 20), (7, 15)])
def test_resized_is_torchvisions_resize(size: tuple[int, int]) -> None:
    from torchvision.transforms import functional

    image = smooth(*size)
    assert far(resized(image, 20), functional.resize(image, [20])) == 0


def test_cut_is_torchvisions_resized_crop(tmp_path: Path) -> None:
    from torchvision.transforms import functional

    image = smooth(50, 40)
    image.save(tmp_path / "a.png")
    boxes = [[3, 5, 30, 25, 0], [10, 0, 12, 9, 1]]
    where = place(tmp_path / "a.png")
    found = cut(Request([where, where], boxes, None, 16))
    for crop, (left, top, width, height, flip) in zip(found, boxes, strict=True):
        wanted = functional.resized_crop(image, top, left, height, width, [16, 16])
        wanted = functional.hflip(wanted) if flip else wanted
        assert far(Image.fromarray(crop), wanted) == 0


def test_cut_after_a_resize_is_the_papers_test_crop(tmp_path: Path) -> None:
    from torchvision.transforms import functional

    image = smooth(50, 40)
    image.save(tmp_path / "a.png")
    (found,) = cut(Request([place(tmp_path / "a.png")], [[2, 2, 16, 16, 0]], 20, 16))
    whole = functional.resize(image, [20])
    assert far(Image.fromarray(found), functional.crop(whole, 2, 2, 16, 16)) == 0


def test_a_file_that_breaks_later_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"broken")
    with pytest.raises(FailedError, match=r"a\.png could be decoded and now cannot: not an image"):
        cut(Request([place(path)], [[0, 0, 4, 4, 0]], None, 4))
