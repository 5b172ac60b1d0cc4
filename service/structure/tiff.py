"""TIFF: its directory says where pieces of the picture lie, how many there are and how large."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import BadImageError, TooLargeError

MAX_ENTRIES = 4096  # in one directory
MAX_VALUES = 1 << 18  # of all tags that are no text and no bytes: each becomes an object,
RATIONAL_WEIGHT = 16  # and a fraction several
MAX_PIECES = 1 << 18  # strips or tiles
MAX_PLANES = 6  # Pillow's limit of samples per pixel, each of which may have its own pieces
MIN_PIECE_PIXELS = 1 << 22  # a small picture may lie in one large tile

WIDTH, HEIGHT, ROWS, TILE_WIDTH, TILE_HEIGHT = 256, 257, 278, 322, 323
GEOMETRY = (WIDTH, HEIGHT, ROWS, TILE_WIDTH, TILE_HEIGHT)
STRIPS, TILES = 273, 324  # where they lie
TABLES = (STRIPS, 279, TILES, 325)  # and how long they are
DIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability: read with the picture
RATIONALS = (5, 10)
OPAQUE = (1, 2, 7)  # BYTE, ASCII, UNDEFINED: however many, one object
INTEGERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Entry:
    """Of a directory; `value` where it is one integer and lies in the entry itself."""

    tag: int
    kind: int
    count: int
    value: int | None


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
                code = INTEGERS.get(kind) if values == 1 else None
                fits = code is not None and struct.calcsize(self.order + code) <= len(inline)
                value = struct.unpack_from(self.order + code, inline)[0] if fits and code else None
                yield Entry(tag, kind, values, value)


def require_bounded(content: bytes) -> None:
    layout = Layout("<" if content.startswith(b"II") else ">", b"+" in content[2:4])
    start = struct.Struct(layout.order + ("Q" if layout.big else "I"))
    if len(content) < 16:
        return
    first = list(layout.entries(content, start.unpack_from(content, 8 if layout.big else 4)[0]))
    _require_values([*first, *_further(content, layout, first)])
    _require_pieces(first)


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
        if entry.tag in sizes or entry.value is None:
            raise BadImageError(f"the TIFF's tag {entry.tag} is not one whole number")
        sizes[entry.tag] = entry.value
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
