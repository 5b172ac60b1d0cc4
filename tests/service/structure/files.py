"""Files that ask a decoder for work out of proportion, and as large files that do not."""

import struct
import zlib
from collections.abc import Iterable
from io import BytesIO

from PIL import Image

from tests.service.images import chunk

Tag = tuple[int, int, int, bytes]  # number, type, how many values, the values


def saved(format: str, *, width: int = 64, height: int = 48, **options: object) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(stream, format, **options)
    return stream.getvalue()


def jpeg_segment(code: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(content) + 2) + content


def jpeg_with(inserted: bytes) -> bytes:
    """Right after the start."""
    jpeg = saved("JPEG")
    return jpeg[:2] + inserted + jpeg[2:]


def jpeg_of_scans(count: int) -> bytes:
    """The last scan of a progressive JPEG over and over, `count` scans in all."""
    jpeg = saved("JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    scans = jpeg.count(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * (count - scans) + b"\xff\xd9"


def jpeg_of_hidden_scans(count: int) -> bytes:
    """Within 64 KiB that begin as a segment would, with a marker which is none: decoders that look
    for a restart step over the marker alone."""
    jpeg = saved("JPEG", progressive=True, restart_marker_rows=1)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + b"\xff\x02\xfe\xf0" + (scan * count).ljust(0xFEEE, b"\0") + b"\xff\xd9"


def png_with(inserted: bytes) -> bytes:
    """Before the pixels."""
    png = saved("PNG")
    place = png.index(b"IDAT") - 4
    return png[:place] + inserted + png[place:]


def profile_chunk() -> bytes:
    return chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1000)))


def gif_with(inserted: bytes) -> bytes:
    """Before the first frame."""
    gif = saved("GIF")
    place = 13 + (3 << (gif[10] & 7) + 1)
    return gif[:place] + inserted + gif[place:]


def gif_of_frames_in_the_palette(blocks: int) -> bytes:
    """Its colours are what frames begin with."""
    gif = gif_with(b"!\x01\x00" * (blocks // 2 + 1))
    size = 3 << (gif[10] & 7) + 1
    return gif[:13] + b"," * size + gif[13 + size :]


def bmp_of_os2(first: bytes) -> bytes:
    """In the short header of OS/2, 64x48 pixels in 24 bits; `first` are the first bytes of them."""
    pixels = first.ljust(64 * 48 * 3, b"\0")
    start = struct.pack("<IHHI", 26 + len(pixels), 0, 0, 26)
    return b"BM" + start + struct.pack("<IHHHH", 12, 64, 48, 1, 24) + pixels


def bmp_run_lengths(width: int, height: int, *, more: int = 0) -> bytes:
    """RLE8, red throughout; `more` ends of lines too many."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    runs, rest = divmod(width, 255)
    row = b"\xff\x01" * runs + (bytes([rest, 1]) if rest else b"") + b"\0\0"
    start = 54 + 1024
    palette = bytes(4) + b"\x00\x00\xff\x00" + bytes(1024 - 8)
    body = row * height + b"\0\0" * more + b"\0\1"
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


def tiff_of(
    tags: Iterable[Tag], pixels: bytes = b"", *, order: str = "<", big: bool = False
) -> bytes:
    """Header, directory, the values that lie outside it, and the pixels at the end."""
    tags = sorted(tags)
    number, entry, offset = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    inline = 8 if big else 4
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    size = struct.calcsize(order + entry) + inline
    place = len(head) + struct.calcsize(number) + size * len(tags) + inline
    directory, outside = struct.pack(order + number, len(tags)), b""
    for tag, kind, count, values in tags:
        directory += struct.pack(order + entry, tag, kind, count)
        if len(values) <= inline:
            directory += values.ljust(inline, b"\0")
        else:
            directory += struct.pack(order + offset, place + len(outside))
            outside += values
    return head + directory + bytes(inline) + outside + pixels


def shorts(*values: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}{len(values)}H", *values)


def longs(*values: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}{len(values)}I", *values)


def grey_tags(width: int, height: int, *, compression: int = 1, order: str = "<") -> list[Tag]:
    """8 bits of grey; where the pixels lie is missing."""

    def short(tag: int, value: int) -> Tag:
        return tag, 3, 1, shorts(value, order=order)

    return [
        (256, 4, 1, longs(width, order=order)),
        (257, 4, 1, longs(height, order=order)),
        short(258, 8),
        short(259, compression),
        short(262, 1),
        short(277, 1),
    ]


def tiff_of_strips(count: int, *, width: int = 100, height: int = 80, rows: int = 79) -> bytes:
    """Each of `count` strips is nearly the whole picture, and all lie in one place."""
    strips = [
        (273, 4, count, longs(8) * count),
        (278, 4, 1, longs(rows)),
        (279, 4, 1, longs(width * rows)),
    ]
    return tiff_of([*grey_tags(width, height), *strips], bytes(width * height))


def tiff_of_shared_bytes(strips: int, size: int, *, tag: int = 279, kind: int = 4) -> bytes:
    """Each of the strips, a row of `size` pixels, is said to be all of the bytes at the end."""
    counts = {3: shorts, 4: longs}[kind](size) * strips
    tags = [*grey_tags(size, strips), (278, 4, 1, longs(1)), (tag, kind, strips, counts)]
    place = len(tiff_of([*tags, (273, 4, strips, longs(0) * strips)]))
    return tiff_of([*tags, (273, 4, strips, longs(place) * strips)], bytes(size))


def grey_tiff(*more: Tag, rows: Tag | None = None) -> bytes:
    """64x48 pixels, plain, in one strip; a tag of `more` replaces the one of its number."""
    tags = [*grey_tags(64, 48), rows or (278, 4, 1, longs(48)), (279, 4, 1, longs(64 * 48))]
    replaced = {tag[0] for tag in more}
    tags = [tag for tag in tags if tag[0] not in replaced] + list(more)
    place = len(tiff_of([*tags, (273, 4, 1, longs(0))]))
    return tiff_of([*tags, (273, 4, 1, longs(place))], bytes(range(64)) * 48)


def tiff_of_a_tile(side: int) -> bytes:
    """One pixel in a tile of `side` squared."""
    tile = zlib.compress(bytes(side * side), 9)
    tags = [
        *grey_tags(1, 1, compression=8),
        (322, 4, 1, longs(side)),
        (323, 4, 1, longs(side)),
        (324, 4, 1, longs(8 + 2 + 12 * 10 + 4)),
        (325, 4, 1, longs(len(tile))),
    ]
    return tiff_of(tags, tile)
