"""Ordinary JPEGs are decoded past Pillow, to the same pixels; all others are Pillow's."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile

from models.jpeg import ordinary_jpeg
from models.pixels import open_image, rgb_pixels

Pixels = NDArray[np.uint8]

WAYS: dict[str, dict[str, Any]] = {
    "as cameras do": {"quality": 90},
    "colours in full": {"quality": 75, "subsampling": 0},
    "colours halved": {"quality": 75, "subsampling": 1},
    "progressive": {"quality": 80, "progressive": True},
    "tables of its own": {"quality": 60, "optimize": True},
    "restarts": {"quality": 80, "restart_marker_blocks": 3},
    "coarse": {"quality": 3},
}


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Slopes with noise on them."""
    random = np.random.default_rng((width, height))
    slope = np.add.outer(np.linspace(0, 90, height), np.linspace(0, 90, width))[..., None]
    noisy = slope * (1.0, 0.8, 0.5) + random.normal(40, 12, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def jpeg(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def as_pillow_does(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def decoded(content: bytes | Path) -> Pixels | None:
    with open_image(content) as image:
        return ordinary_jpeg(image)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 8), (33, 47), (640, 427)], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_pixels_are_pillow_s(mode: str, size: tuple[int, int], way: str) -> None:
    content = jpeg(picture(*size, mode), **WAYS[way])
    found = decoded(content)
    assert found is not None
    assert np.array_equal(found, as_pillow_does(content))


def test_so_they_are_from_a_file(tmp_path: Path) -> None:
    content = jpeg(picture(60, 40))
    (tmp_path / "a.jpg").write_bytes(content)
    found = decoded(tmp_path / "a.jpg")
    assert found is not None
    assert np.array_equal(found, as_pillow_does(content))


def test_of_several_pictures_the_first_is_taken() -> None:
    second = picture(20, 30).rotate(180)
    content = jpeg(picture(20, 30), "MPO", save_all=True, append_images=[second])
    found = decoded(content)
    assert found is not None
    assert np.array_equal(found, as_pillow_does(content))


def test_pillow_can_still_load_the_image() -> None:
    content = jpeg(picture(60, 40))
    with open_image(content) as image:
        found = ordinary_jpeg(image)
        assert found is not None
        assert np.array_equal(np.asarray(image), found)
        assert ordinary_jpeg(image) is None  # loaded: there is no file any more


def test_pixels_come_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow reads the header and decodes nothing."""
    content = jpeg(picture(60, 40))
    expected = as_pillow_does(content)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: 1 / 0)
    with open_image(content) as image:
        assert np.array_equal(rgb_pixels(image).permute(1, 2, 0).numpy(), expected)


def test_a_picture_of_another_size_than_its_header_says_is_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_image(jpeg(picture(60, 40))) as image:
        for size in ((60, 41), (61, 40), (40, 60), (1000, 1000), (6, 4)):
            monkeypatch.setattr(image, "_size", size)
            assert ordinary_jpeg(image) is None


def test_what_was_cut_off_is_not_decoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are dozens of scans, which broken files have."""
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    content = jpeg(Image.fromarray(noise), quality=95)
    scans = content[:-2] + b"\xff\xda\x00\x02" * 31 + content[-2:]
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *arguments, **options: 1 / 0)
    assert decoded(content[:-3000]) is None
    assert decoded(scans) is None
    with pytest.raises(ZeroDivisionError):
        decoded(content + bytes(60_000))  # what some programs write behind it


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP", "TIFF", "GIF"])
def test_other_formats_are_not_touched(format: str) -> None:
    assert decoded(jpeg(picture(20, 30), format)) is None


def test_cmyk_is_not_touched() -> None:
    assert decoded(jpeg(picture(20, 30, "CMYK"))) is None


def test_what_is_damaged_is_not_touched(capfd: pytest.CaptureFixture[str]) -> None:
    """Nor is a word said of it on the terminal, as libjpeg does by itself."""
    content = jpeg(picture(64, 48), quality=95)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[int(random.integers(len(damaged) // 3, len(damaged)))] ^= 1 << random.integers(8)
        found = decoded(bytes(damaged[: int(random.integers(len(damaged) // 2, len(damaged)))]))
        refused += found is None
    assert refused == 300
    assert capfd.readouterr() == ("", "")
