"""Files that would keep a decoder busy for minutes are refused before it sees them; as they must
be refused at once, a test that forgets the limit hangs rather than passes."""

import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.plain_jpeg import plain_jpeg_size
from service.errors import BadImageError, TooLargeError
from service.structure import require_bounded
from service.structure.bmp import MAX_RUN_LENGTH_PIXELS
from service.structure.gif import MAX_BLOCKS
from service.structure.jpeg import MAX_EXIF_BYTES, MAX_JUNK_BYTES, MAX_SCANS, MAX_SEGMENTS
from service.structure.png import MAX_CHUNKS, MAX_EXIF_CHUNK_BYTES, MAX_OTHER_CHUNKS
from service.structure.tiff import MAX_ENTRIES, MAX_VALUES
from service.upload import Upload, decode, read_header
from tests.service.colours import encoded, picture_of
from tests.service.images import chunk, several_frames, turned_jpeg
from tests.service.structure.files import (
    bmp_of_os2,
    bmp_run_lengths,
    gif_of_frames_in_the_palette,
    gif_with,
    grey_tags,
    grey_tiff,
    jpeg_of_hidden_scans,
    jpeg_of_scans,
    jpeg_segment,
    jpeg_with,
    longs,
    png_with,
    profile_chunk,
    saved,
    shorts,
    tiff_of,
    tiff_of_a_tile,
    tiff_of_shared_bytes,
    tiff_of_strips,
)

randbytes = Random(1).randbytes
COMMENT = jpeg_segment(0xFE, b"")
EXIF = jpeg_segment(0xE1, b"Exif\0\0" + bytes(60_000))
STRIP = [(273, 4, 1, longs(8)), (278, 4, 1, longs(1)), (279, 4, 1, longs(1))]
EXIF_TEXT = b"Raw profile type exif\0"
NO_TAG = (60_000, 3, 1, shorts(1))

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: jpeg_of_scans(MAX_SCANS + 1), f"{MAX_SCANS} scans"),
    "hidden scans": (lambda: jpeg_of_hidden_scans(MAX_SCANS), f"{MAX_SCANS} scans"),
    "segments": (lambda: jpeg_with(COMMENT * MAX_SEGMENTS), "segments"),
    "restarts": (lambda: jpeg_with(b"\xff\xd0" * (MAX_SEGMENTS + 1)), "segments"),
    "EXIF in pieces": (lambda: jpeg_with(EXIF * 18), f"{MAX_EXIF_BYTES} bytes of EXIF"),
    "padding": (lambda: jpeg_with(b"\xff" * (MAX_JUNK_BYTES + 2)), "between its segments"),
    "zeros": (lambda: jpeg_with(COMMENT + bytes(MAX_JUNK_BYTES + 2)), "between its segments"),
    "chunks": (lambda: png_with(chunk(b"teSt", b"") * MAX_OTHER_CHUNKS), "beside its pixels"),
    "pixel chunks": (lambda: png_with(chunk(b"IDAT", b"") * MAX_CHUNKS), "chunks of pixels"),
    "chunks at the end": (
        lambda: saved("PNG")[:-12] + chunk(b"teSt", b"") * MAX_OTHER_CHUNKS,
        "beside its pixels",
    ),
    "profiles": (lambda: png_with(profile_chunk() * 2), "1 colour profile"),
    "EXIF": (lambda: png_with(chunk(b"eXIf", bytes(MAX_EXIF_CHUNK_BYTES + 1))), "chunk eXIf"),
    "EXIF in a text": (
        lambda: png_with(chunk(b"tEXt", EXIF_TEXT + b"0" * MAX_EXIF_CHUNK_BYTES)),
        "chunk tEXt",
    ),
    "extensions": (lambda: gif_with(b"!\x01\x00" * (MAX_BLOCKS // 2 + 1)), "blocks"),
    "frames in the palette": (lambda: gif_of_frames_in_the_palette(MAX_BLOCKS), "blocks"),
    "comment": (lambda: gif_with(b"!\xfe" + b"\x01a" * MAX_BLOCKS + b"\0"), "blocks"),
    "nothing": (lambda: gif_with(bytes(MAX_BLOCKS + 1)), "blocks"),
    "runs": (lambda: bmp_run_lengths(4001, MAX_RUN_LENGTH_PIXELS // 4000), "run lengths"),
    "ends of lines": (lambda: bmp_run_lengths(10, 10, more=40_000), "run lengths"),
    "strips": (lambda: tiff_of_strips(13), r"13 pieces \(tag 273\)"),
    "shared strips": (lambda: tiff_of_shared_bytes(1000, 10_000), "10000000 bytes together"),
    "shared strips, short": (lambda: tiff_of_shared_bytes(1000, 10_000, kind=3), "bytes together"),
    "shared strips as tiles": (lambda: tiff_of_shared_bytes(1000, 10_000, tag=325), "tag 325"),
    "tile": (lambda: tiff_of_a_tile(3000), "3000x3000"),
    "both": (lambda: tiff_of([*grey_tags(1, 1), *STRIP, (324, 4, 1, longs(8))]), "both strips"),
    "twice": (lambda: tiff_of([*grey_tags(1, 1), *STRIP, (256, 4, 1, longs(9))]), "tag 256"),
    "negative": (lambda: grey_tiff((278, 9, 1, longs(0xFFFFFFFF))), "tag 278"),
    "no number": (lambda: tiff_of([*grey_tags(1, 1), *STRIP, (322, 5, 1, longs(9, 1))]), "tag 322"),
    "ratios": (
        lambda: tiff_of([*grey_tags(1, 1), *STRIP, (282, 5, 20_000, b"")]),
        f"numbers, the limit is {MAX_VALUES}",
    ),
    "tags": (
        lambda: tiff_of([*grey_tags(1, 1), *[NO_TAG] * MAX_ENTRIES]),
        f"tags, the limit is {MAX_ENTRIES}",
    ),
    "many tags": (lambda: tiff_of([NO_TAG] * (MAX_ENTRIES + 1), big=True), "tags, the limit"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_asks_for_too_much_is_refused_unopened(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, named = REFUSED[what]

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a decoder saw it")

    monkeypatch.setattr("PIL.Image.open", opened)
    with pytest.raises((TooLargeError, BadImageError), match=named):
        read_header(Upload(None, make()), max_pixels=100_000_000)


PLAIN_JPEGS = [saved("JPEG"), saved("JPEG", subsampling=0), jpeg_with(10 * COMMENT)]

ACCEPTED: dict[str, Callable[[], bytes]] = {
    "a progressive JPEG": lambda: saved("JPEG", progressive=True),
    "as many scans as the limit": lambda: jpeg_of_scans(MAX_SCANS),
    "segments": lambda: jpeg_with(COMMENT * (MAX_SEGMENTS - 20)),
    "a thumbnail with scans of its own": lambda: jpeg_with(
        jpeg_segment(0xE2, b"\xff\xda\0\x02" * 1000)
    ),
    "a film behind the picture": lambda: saved("JPEG") + b"\xff\xda\0\x02" * (MAX_SCANS + 1),
    "several pictures": lambda: several_frames("MPO"),
    "EXIF": turned_jpeg,
    "an animated PNG": lambda: several_frames("PNG"),
    "a profile": lambda: png_with(profile_chunk()),
    "chunks": lambda: png_with(chunk(b"teSt", b"") * (MAX_OTHER_CHUNKS - 10)),
    "a large profile": lambda: saved("PNG", icc_profile=randbytes(3_000_000)),
    "a long text": lambda: png_with(chunk(b"tEXt", b"drawing\0" + b"a" * 3_000_000)),
    "a long text, compressed": lambda: png_with(
        chunk(b"zTXt", b"drawing\0\0" + zlib.compress(bytes(3_000_000)))
    ),
    "a history of Photoshop": lambda: png_with(
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000))
    ),
    "a GIF with a comment": lambda: gif_with(b"!\xfe" + b"\x01a" * 1000 + b"\0"),
    "a BMP of OS/2": lambda: bmp_of_os2(bytes([0, 0, 0, 0, 1, 0])),
    "run lengths": lambda: bmp_run_lengths(300, 200),
    "strips": lambda: saved("TIFF", height=500, tiffinfo={278: 3}),
    "strips, compressed": lambda: saved("TIFF", height=500, compression="tiff_lzw"),
    "strips of planes": lambda: tiff_of_strips(12),
    "a tile": lambda: tiff_of_a_tile(2048),
    "big-endian": lambda: tiff_of(
        [*grey_tags(3, 1, order=">"), (273, 4, 1, longs(8, order=">"))], order=">"
    ),
    "one strip, however high": lambda: grey_tiff(rows=(278, 4, 1, longs(0xFFFFFFFF))),
    "a width that may be negative": lambda: grey_tiff((256, 9, 1, longs(64))),
    "the width twice": lambda: grey_tiff((256, 4, 1, longs(64)), (256, 4, 1, longs(64))),
    "strips of any length": lambda: grey_tiff((279, 4, 1, longs(0xFFFFFFFF))),
    "blank strips in one place": lambda: tiff_of_shared_bytes(100, 9000),
    "a table of 300,000 numbers": lambda: grey_tiff((50838, 4, 300_000, bytes(1_200_000))),
    "how a scanner sees 16 bits": lambda: grey_tiff((301, 3, 3 << 16, bytes(6 << 16))),
    "a big TIFF": lambda: saved("TIFF", big_tiff=True),
    "several pages": lambda: several_frames("TIFF"),
    "a WebP": lambda: saved("WEBP"),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_cameras_and_programs_write_is_read(what: str) -> None:
    upload = Upload(None, ACCEPTED[what]())
    header = read_header(upload, max_pixels=1_000_000)
    assert decode(upload, header).shape == (3, header.height, header.width)


@settings(max_examples=300, deadline=None)
@given(
    content=st.sampled_from(PLAIN_JPEGS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
    filling=st.sampled_from(
        [b"", COMMENT, b"\xff\xc4\x00\x02", b"\xff\xd0", jpeg_segment(0xE1, b"Exif\0\0")]
    ),
    count=st.integers(0, 2 * MAX_SEGMENTS),
)
def test_plain_jpegs_are_bounded(
    content: bytes, changes: list[tuple[float, int]], filling: bytes, count: int
) -> None:
    """They are decoded without being looked through."""
    changed = bytearray(content[:-2] + count * filling + content[-2:])
    for share, value in changes:
        changed[2 + int(share * (len(changed) - 3))] = value
    if plain_jpeg_size(bytes(changed)) is not None:
        require_bounded(bytes(changed))


def test_real_photographs_are_let_through(photographs: dict[str, Path]) -> None:
    for path in photographs.values():
        require_bounded(path.read_bytes())


SEEDS = [
    *(encoded(picture_of(20, 12), format) for format in ("PNG", "GIF", "BMP", "TIFF", "JPEG")),
    bmp_run_lengths(30, 10),
    tiff_of_a_tile(16),
    saved("TIFF", big_tiff=True),
    jpeg_of_scans(20),
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    content=st.sampled_from(SEEDS),
    changes=st.lists(
        st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), max_size=6
    ),
    length=st.integers(0, 4000),
)
def test_any_bytes_are_looked_through_or_refused(
    content: bytes, changes: list[tuple[int, bytes]], length: int
) -> None:
    changed = bytearray(content)
    for place, values in changes:
        start = place % len(changed)
        changed[start : start + len(values)] = values
    with suppress(BadImageError, TooLargeError):
        require_bounded(bytes(changed[:length]))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0+"]),
    st.binary(max_size=400),
)
def test_a_signature_and_anything_behind_it(signature: bytes, rest: bytes) -> None:
    with suppress(BadImageError, TooLargeError):
        require_bounded(signature + rest)


def test_a_directory_of_a_directory_counts_too() -> None:
    """EXIF lies in a directory of its own, to which a tag of the first points."""
    inner = struct.pack("<H", 1) + struct.pack("<HHII", 33434, 5, MAX_VALUES + 1, 0) + bytes(4)
    tags = [*grey_tags(1, 1), *STRIP]
    place = len(tiff_of([*tags, (34665, 4, 1, longs(0))]))
    with pytest.raises(TooLargeError, match="numbers"):
        require_bounded(tiff_of([*tags, (34665, 4, 1, longs(place))], inner))
