"""JPEGs that may be given to any decoder, and no others."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.errors import PixelsError
from models.pixels import open_image, orientation
from models.plain_jpeg import (
    MAX_BYTES,
    MAX_ENTRIES,
    MAX_HEADER_BYTES,
    MAX_SEGMENTS,
    plain_jpeg_size,
)
from tests.models.test_jpeg import WAYS, jpeg, picture

PHOTO = jpeg(picture(60, 40))
GREY = jpeg(picture(60, 40, "L"))
ORIENTATION = 0x0112
XMP = b"http://ns.adobe.com/xap/1.0/\0"


def segment(code: int, body: bytes) -> bytes:
    return bytes((0xFF, code)) + (len(body) + 2).to_bytes(2, "big") + body


def with_segments(*segments: bytes, content: bytes = PHOTO) -> bytes:
    return content[:2] + b"".join(segments) + content[2:]


def without_jfif(content: bytes = PHOTO) -> bytes:
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
    body = b"Adobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    return with_segments(segment(0xEE, body), content=content)


def with_exif(
    *values: int,
    kind: int = 3,
    count: int = 1,
    order: str = "<",
    fill: int = 0,
    content: bytes = PHOTO,
) -> bytes:
    """Says an orientation as often as there are values, behind `fill` other entries."""
    entries = [(0x8000 + index, 3, 1, 7) for index in range(fill)]
    entries += [(ORIENTATION, kind, count, value) for value in values]
    tiff = struct.pack(f"{order}2sHLH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    tiff += b"".join(struct.pack(f"{order}HHLHxx", *entry) for entry in entries) + bytes(4)
    return with_segments(segment(0xE1, b"Exif\0\0" + tiff), content=content)


def with_thumbnail() -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x927C] = jpeg(picture(16, 12))
    return jpeg(picture(60, 40), exif=exif)


def turned(value: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return jpeg(picture(60, 40), exif=exif)


def with_byte(content: bytes, marker: bytes, offset: int, value: int) -> bytes:
    changed = bytearray(content)
    changed[content.index(marker) + offset] = value
    return bytes(changed)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (640, 427)], ids=str)
def test_plain_are_those_that_are_decoded_alike_everywhere(
    size: tuple[int, int], mode: str, way: str
) -> None:
    odd = ("progressive",) if mode == "RGB" else ("progressive", "colours halved")
    content = jpeg(picture(*size, mode), **WAYS[way])
    assert plain_jpeg_size(content) == (None if way in odd else size[::-1])


PLAIN = {
    "a thumbnail within": with_thumbnail(),
    "components that are called as usual": without_jfif(),
    "YCbCr, says Adobe": with_adobe(without_jfif(), 1),
    "from 0, and JFIF says what that means": with_numbers(PHOTO, 0, 1, 2),
    "grey, whatever Adobe says": with_adobe(GREY, 0),
    "upright, says EXIF": turned(1),
    "upright, in the other byte order": with_exif(1, order=">"),
    "EXIF is silent": with_exif(fill=12),
    "EXIF of as many entries as are read": with_exif(1, fill=MAX_ENTRIES - 1),
    "as many bytes as are looked at": PHOTO + bytes(MAX_BYTES - len(PHOTO)),
    "EXIF says it, so XMP need not": with_segments(
        segment(0xE1, XMP + b'tiff:Orientation="6"'), content=turned(1)
    ),
    "XMP is silent": with_segments(segment(0xE1, XMP + b"<x:xmpmeta/>")),
    "a colour profile": jpeg(picture(60, 40), icc_profile=bytes(70_000)),
    "a comment": jpeg(picture(60, 40), comment=b"what it shows"),
    "something behind its end": PHOTO + bytes(100_000),
    "another picture behind its end": PHOTO + PHOTO,
    "as many segments as are read": with_segments(*[segment(0xFE, b"")] * (MAX_SEGMENTS - 9)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_are_also(kind: str) -> None:
    assert plain_jpeg_size(PLAIN[kind]) == (40, 60)


OTHERS = {
    "nothing": b"",
    "a PNG": jpeg(picture(60, 40), "PNG"),
    "CMYK": jpeg(picture(60, 40, "CMYK")),
    "two pictures": jpeg(picture(60, 40), "MPO", save_all=True, append_images=[picture(9, 9)]),
    "arithmetic": PHOTO.replace(b"\xff\xc0", b"\xff\xc9", 1),
    "lossless": PHOTO.replace(b"\xff\xc0", b"\xff\xc3", 1),
    "extended": PHOTO.replace(b"\xff\xc0", b"\xff\xc1", 1),
    "12 bits": with_byte(PHOTO, b"\xff\xc0", 4, 12),
    "no rows": with_byte(PHOTO, b"\xff\xc0", 6, 0),
    "no columns": with_byte(with_byte(PHOTO, b"\xff\xc0", 7, 0), b"\xff\xc0", 8, 0),
    "odd sampling": PHOTO.replace(b"\x01\x22\x00", b"\x01\x41\x00", 1),
    "RGB, says Adobe": with_adobe(PHOTO, 0),
    "RGB, says Adobe somewhere": with_adobe(with_adobe(PHOTO, 0), 1),
    "Adobe, cut off": with_segments(segment(0xEE, b"Adobe\x00\x64")),
    "RGB, say its components": with_numbers(without_jfif(), 82, 71, 66),
    "of odd components": with_numbers(without_jfif(), 0, 1, 2),
    "JFIF, cut off": with_segments(
        segment(0xE0, b"JFIF\0\x01\x01"), content=with_numbers(without_jfif(), 0, 1, 2)
    ),
    "JFIF, once cut off": with_segments(
        segment(0xE0, b"JFIF\0\x01\x01"), content=with_numbers(PHOTO, 0, 1, 2)
    ),
    "two frames": with_segments(PHOTO[PHOTO.index(b"\xff\xc0") :][:19]),
    "a scan for each component": with_byte(PHOTO, b"\xff\xda", 4, 1),
    "the scan has others": with_byte(PHOTO, b"\xff\xda", 5, 9),
    "the scan has a part": with_byte(PHOTO, b"\xff\xda", 12, 9),
    "two scans": PHOTO[:-2] + PHOTO[PHOTO.index(b"\xff\xda") :],
    "two scans, and an end behind the first": PHOTO[:-2]
    + PHOTO[PHOTO.index(b"\xff\xda") :]
    + PHOTO[-2:],
    "a marker in the scan": PHOTO[:-20] + b"\xff\xc4\0\x02" + PHOTO[-16:],
    "a segment without its own length": with_segments(b"\xff\xfe\x00\x00"),
    "junk": PHOTO.replace(b"\xff\xc0", b"junk\xff\xc0", 1),
    "padding": PHOTO.replace(b"\xff\xc0", b"\xff\xff\xc0", 1),
    "a marker without a length": with_segments(b"\xff\xd0"),
    "cut off": PHOTO[:-20],
    "cut off behind a thumbnail": with_thumbnail()[:-20],
    "turned": turned(6),
    "turned, in the other byte order": with_exif(6, order=">"),
    "turned or not": with_exif(1, 6),
    "no orientation": with_exif(1, kind=4),
    "several orientations": with_exif(1, count=2),
    "EXIF twice": with_exif(1, content=turned(1)),
    "EXIF twice, and silent": with_exif(fill=3, content=with_exif(fill=3)),
    "EXIF that cannot be read": with_segments(segment(0xE1, b"Exif\0\0XX")),
    "EXIF, cut off": with_segments(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05\0")),
    "EXIF of many entries": with_exif(1, fill=MAX_ENTRIES),
    "turned, says XMP": with_segments(segment(0xE1, XMP + b'tiff:Orientation="6"')),
    "a long header": with_segments(*[segment(0xFE, bytes(MAX_HEADER_BYTES // 5))] * 5),
    "many bytes": PHOTO + bytes(MAX_BYTES - len(PHOTO) + 1),
    "many segments": with_segments(*[segment(0xFE, b"")] * MAX_SEGMENTS),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_others_are_not(kind: str) -> None:
    assert plain_jpeg_size(OTHERS[kind]) is None


@pytest.mark.parametrize("length", [*range(0, 700, 7), *range(700, len(PHOTO), 41)])
def test_what_is_cut_off_is_not(length: int) -> None:
    assert plain_jpeg_size(PHOTO[:length]) is None


@given(
    st.sampled_from([*PLAIN.values(), PHOTO, GREY]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
)
def test_pillow_says_the_same(content: bytes, changes: list[tuple[float, int]]) -> None:
    """Whatever a header says: of what is found plain the size is right, and it is upright."""
    changed = bytearray(content)
    header = content.rindex(b"\xff\xda") + 14
    for share, value in changes:
        changed[2 + int(share * (header - 2))] = value
    size = plain_jpeg_size(bytes(changed))
    if size is None:
        return
    try:
        opened = open_image(bytes(changed))
    except PixelsError:  # damaged; no decoder reads it
        return
    with opened as image:
        assert (image.height, image.width) == size
        assert image.format == "JPEG"
        assert image.mode in ("L", "RGB")
        assert orientation(image) == 1


def test_pillow_opens_what_was_made_here() -> None:
    for kind, content in PLAIN.items():
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert image.size == (60, 40), kind
