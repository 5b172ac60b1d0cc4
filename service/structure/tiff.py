"""TIFF: its directory says where pieces of the picture lie, how many there are and how large."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import BadImageError, TooLargeError

MAX_ENTRIES = 4096  # in one directory
MAX_VALUES = 1 << 20  # of all tags that are no text and no bytes: each becomes an object,
RATIONAL_WEIGHT = 64  # and a fraction several, with arithmetic
MAX_PIECES = 1 << 18  # strips or tiles
MAX_SHARED_BYTES = 4 << 20  # read once more: blank tiles may all be one
MAX_PLANES = 6  # Pillow's limit of samples per pixel, each of which may have its own pieces
MIN_PIECE_PIXELS = 1 << 22  # a small picture may lie in one large tile

WIDTH, HEIGHT, ROWS, TILE_WIDTH, TILE_HEIGHT = 256, 257, 278, 322, 323
GEOMETRY = (WIDTH, HEIGHT, ROWS, TILE_WIDTH, TILE_HEIGHT)
STRIPS, TILES = 273, 324  # where they lie
BYTE_COUNTS = (279, 325)  # and how long they are
TABLES = (STRIPS, TILES, *BYTE_COUNTS)
DIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability: read with the picture
RATIONALS = (5, 10)
OPAQUE = (1, 2, 7)  # BYTE, ASCII, UNDEFINED: however many, one object
INTEGERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4"}
INTEGERS |= {13: "u4", 16: "u8", 17: "i8", 18: "u8"}


@dataclass(frozen=True)
class Entry:
    """Of a directory; `numbers` where its values are integers, as far as the file has them."""

    tag: int
    kind: int
    count: int
    numbers: NDArray[np.integer] | None

    @property
    def value(self) -> int | None:
        """Where it is one integer."""
        is_one = self.count == 1 and self.numbers is not None and self.numbers.size == 1
        return int(self.numbers[0]) if is_one and self.numbers is not None else None


@dataclass(frozen=True)
class Layout:
    """How this file writes numbers."""

    order: str
    big: bool

    def entries(self, content: bytes, place: int) -> Iterator[Entry]:
        """Of the directory at `place`, as far as the file has it."""
        number = struct.Struct(self.order + ("Q" if self.big else "H"))
        entry = struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))
        if place + number.size > len(content):
            return
        (count,) = number.unpack_from(content, place)
        if count > MAX_ENTRIES:
            raise TooLargeError(f"the TIFF has {count} tags, the limit is {MAX_ENTRIES}")
        place += number.size
        for at in range(place, min(place + count * entry.size, len(content)), entry.size):
            if at + entry.size <= len(content):
                tag, kind, values, inline = entry.unpack_from(content, at)
                yield Entry(tag, kind, values, self._numbers(content, kind, values, at, inline))

    def _numbers(
        self, content: bytes, kind: int, count: int, at: int, inline: bytes
    ) -> NDArray[np.integer] | None:
        """Of the entry at `at`, in which they lie themselves where they fit."""
        if kind not in INTEGERS:
            return None
        dtype = np.dtype(self.order + INTEGERS[kind])
        place = at + (12 if self.big else 8)
        if count * dtype.itemsize > len(inline):
            (place,) = struct.unpack(self.order + ("Q" if self.big else "I"), inline)
        count = min(count, (len(content) - place) // dtype.itemsize)
        return np.frombuffer(content, dtype, count, place) if count > 0 else np.empty(0, dtype)


def require_bounded(content: bytes) -> None:
    layout = Layout("<" if content.startswith(b"II") else ">", b"+" in content[2:4])
    start = struct.Struct(layout.order + ("Q" if layout.big else "I"))
    if len(content) < 16:
        return
    first = list(layout.entries(content, start.unpack_from(content, 8 if layout.big else 4)[0]))
    _require_values([*first, *_further(content, layout, first)])
    _require_pieces(first)
    _require_own_bytes(first, len(content))


def _further(content: bytes, layout: Layout, first: list[Entry]) -> Iterator[Entry]:
    """Of the directories beside the picture's, and of theirs."""
    for entry in first:
        if entry.tag in DIRECTORIES and entry.value is not None:
            for inner in layout.entries(content, entry.value):
                yield inner
                if inner.tag in DIRECTORIES and inner.value is not None:
                    yield from layout.entries(content, inner.value)


def _require_values(entries: list[Entry]) -> None:
    values = sum(
        entry.count * (RATIONAL_WEIGHT if entry.kind in RATIONALS else 1)
        for entry in entries
        if entry.kind not in OPAQUE and entry.tag not in TABLES
    )
    if values > MAX_VALUES:
        raise TooLargeError(f"the TIFF's tags hold {values} numbers, the limit is {MAX_VALUES}")


def _sizes(entries: list[Entry]) -> dict[int, int]:
    """By tag. What decoders could read in two ways is refused."""
    if {STRIPS, TILES} <= {entry.tag for entry in entries}:
        raise BadImageError("the TIFF has both strips and tiles")
    sizes: dict[int, int] = {}
    for entry in entries:
        if entry.tag not in GEOMETRY:
            continue
        value = entry.value
        if value is None or value < 0 or sizes.setdefault(entry.tag, value) != value:
            raise BadImageError(f"the TIFF's tag {entry.tag} is not one whole number")
    return sizes


def _require_pieces(entries: list[Entry]) -> None:
    """No more of them than cover the picture, none much larger than it."""
    sizes = _sizes(entries)
    width, height = sizes.get(WIDTH), sizes.get(HEIGHT)
    if not width or not height:
        return  # which no decoder opens
    across = sizes.get(TILE_WIDTH) or width
    down = sizes.get(TILE_HEIGHT) or min(sizes.get(ROWS) or height, height)
    if across * down > max(MIN_PIECE_PIXELS, width * height):
        raise TooLargeError(
            f"the TIFF has tiles of {across}x{down} pixels, larger than its {width}x{height}"
        )
    pieces = min(-(-width // across) * -(-height // down) * MAX_PLANES, MAX_PIECES)
    for entry in entries:
        if entry.tag in TABLES and entry.count > pieces:
            raise TooLargeError(
                f"the TIFF lists {entry.count} pieces (tag {entry.tag}), the limit for "
                f"{width}x{height} pixels in pieces of {across}x{down} is {pieces}"
            )


def _require_own_bytes(entries: list[Entry], size: int) -> None:
    """Pieces that share their bytes make a small file a large one. Decoders stop at its end."""
    for entry in entries:
        if entry.tag in BYTE_COUNTS and entry.numbers is not None:
            listed = int(np.minimum(entry.numbers.astype(np.uint64), np.uint64(size)).sum())
            if listed > size + MAX_SHARED_BYTES:
                raise TooLargeError(
                    f"the TIFF's pieces (tag {entry.tag}) have {listed} bytes together, the whole "
                    f"file has {size}"
                )
