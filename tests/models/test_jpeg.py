"""Ordinary JPEGs are decoded past Pillow, to the same pixels; all others are Pillow's."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile

from models.jpeg import is_plain_jpeg, ordinary_jpeg, scan_begin
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


def is_plain(content: bytes) -> bool:
    with open_image(content) as image:
        return is_plain_jpeg(image, content)


def without_jfif(content: bytes) -> bytes:
    """Nothing says then what its components are."""
    assert content[2:4] == b"\xff\xe0"
    return content[:2] + content[4 + int.from_bytes(content[4:6], "big") :]


def with_numbers(content: bytes, *numbers: int) -> bytes:
    """Its components are called that."""
    changed = bytearray(content)
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        place = content.index(marker) + first
        changed[place : place + 3 * step : step] = bytes(numbers)
    return bytes(changed)


def with_adobe(content: bytes, transform: int) -> bytes:
    segment = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    return content[:2] + segment + content[2:]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_are_those_that_are_decoded_alike_everywhere(mode: str, way: str) -> None:
    odd = ("progressive",) if mode == "RGB" else ("progressive", "colours halved")
    assert is_plain(jpeg(picture(60, 40, mode), **WAYS[way])) == (way not in odd)


def with_thumbnail() -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = jpeg(picture(16, 12))
    return jpeg(picture(60, 40), exif=exif)


def test_a_thumbnail_takes_nothing_from_it() -> None:
    assert is_plain(with_thumbnail())


def test_nor_does_it_stand_for_what_was_cut_off() -> None:
    content = with_thumbnail()
    scan = content.rindex(b"\xff\xda")
    assert content.count(b"\xff\xd9", 0, scan) == 1, "the thumbnail's own"
    for length in (scan, scan + 40, len(content) - 20):
        assert not is_plain(content[:length])


def test_nor_do_components_that_are_called_as_usual() -> None:
    content = jpeg(picture(60, 40))
    assert is_plain(without_jfif(content))
    assert is_plain(with_adobe(without_jfif(content), 1))
    assert is_plain(with_numbers(content, 0, 1, 2)), "JFIF says what they are"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("RGB, says Adobe", with_adobe(jpeg(picture(60, 40)), 0)),
        ("RGB, say its components", with_numbers(without_jfif(jpeg(picture(60, 40))), 82, 71, 66)),
        ("of odd components", with_numbers(without_jfif(jpeg(picture(60, 40))), 0, 1, 2)),
        ("RGB, though JFIF is named", b"\xff\xd8\xff\xe0\x00\x09JFIF\x00\x01\x01" + with_numbers(
            without_jfif(jpeg(picture(60, 40))), 82, 71, 66)[2:]),
        ("arithmetic", jpeg(picture(60, 40)).replace(b"\xff\xc0", b"\xff\xc9", 1)),
        ("lossless", jpeg(picture(60, 40)).replace(b"\xff\xc0", b"\xff\xc3", 1)),
        ("extended", jpeg(picture(60, 40)).replace(b"\xff\xc0", b"\xff\xc1", 1)),
        ("with junk", jpeg(picture(60, 40)).replace(b"\xff\xc0", b"junk\xff\xc0", 1)),
        ("CMYK", jpeg(picture(60, 40, "CMYK"))),
        ("two", jpeg(picture(60, 40), "MPO", save_all=True, append_images=[picture(9, 9)])),
        ("odd sampling", jpeg(picture(60, 40)).replace(b"\x01\x22\x00", b"\x01\x41\x00", 1)),
        ("cut off", jpeg(picture(60, 40))[:-20]),
        ("a PNG", jpeg(picture(60, 40), "PNG")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_others_are_not_plain(kind: str, content: bytes) -> None:
    assert not is_plain(content), kind


def test_the_scan_of_a_baseline_jpeg_is_found() -> None:
    content = with_thumbnail()
    assert scan_begin(content) == content.rindex(b"\xff\xda")
    assert scan_begin(jpeg(picture(60, 40), progressive=True)) is None


@pytest.mark.parametrize("length", range(0, 700, 7))
def test_what_is_cut_off_before_its_scan_has_none(length: int) -> None:
    content = jpeg(picture(60, 40))
    begin = content.index(b"\xff\xda")
    expected = begin if length >= begin + 4 else None
    assert scan_begin(content[:length]) == expected
