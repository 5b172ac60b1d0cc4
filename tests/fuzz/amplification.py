"""Small files that are well formed and ask for hours: the same bytes or the same picture, over and
over. They are made anew, as photographs have nothing of the kind that could be changed."""

import struct
import zlib
from random import Random

from tests.fuzz.forgery import Forge

PIXEL = b"\x05"
STRIP_BYTES = 200_000
# what decompresses to nothing, to be repeated, and what ends it with a pixel
END_OF_DEFLATE = b"\x01\x01\x00\xfe\xff" + PIXEL + struct.pack(">I", zlib.adler32(PIXEL))
NOTHING = {  # by the number of the compression
    1: (b"", b"\0", PIXEL),
    5: (b"", int("100000000" * 8, 2).to_bytes(9, "big"), b"\x80\x01\x40\x20"),  # LZW: start anew
    8: (b"\x78\x9c", sum(2 << 10 * n for n in range(4)).to_bytes(5, "little"), END_OF_DEFLATE),
    32773: (b"", b"\x80", b"\0" + PIXEL),
}
SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00"  # of all but the first coefficients: zeros
HIDING = 0xFEF0  # bytes that a segment could have


def share_bytes(content: bytearray, random: Random) -> bytearray:
    """A TIFF of strips of one pixel, all of which lie in one place."""
    order = "<" if content[:2] == b"II" else ">"
    strips, compression = random.choice((10, 200, 20_000)), random.choice(sorted(NOTHING))
    start, unit, end = NOTHING[compression]
    pixels = start + unit * (STRIP_BYTES // len(unit)) + end
    count_tag = random.choice((279, 279, 325))
    place = 8 + 2 + 12 * 9 + 4
    values = [(256, 1), (257, strips), (258, 8), (259, compression), (262, 1)]
    values += [(273, place), (277, 1), (278, 1), (count_tag, place + 4 * strips)]
    tables = {273: place + 8 * strips, count_tag: len(pixels)}
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, strips if tag in tables else 1, value)
        for tag, value in values
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(values))
    found = bytearray(head + entries + bytes(4))
    for value in tables.values():
        found += struct.pack(f"{order}I", value) * strips
    return found + pixels


def hide_scans(content: bytearray, random: Random) -> bytearray:
    """A progressive JPEG whose scans lie behind markers that decoders may step over in two ways."""
    side = random.choice((64, 2000))
    code = b"\x01" + bytes(15) + b"\0"  # one code of one bit: nothing comes
    found = bytearray(b"\xff\xd8" + _segment(0xDB, b"\0" + b"\x01" * 64))
    found += _segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0))
    found += _segment(0xC4, b"\x00" + code) + _segment(0xC4, b"\x10" + code)
    found += _segment(0xDD, struct.pack(">H", (side // 8) ** 2 // 2))  # a restart in each scan
    found += _segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + b"\0"
    marker = random.choice((b"", b"\xff\x01", b"\xff\x02", b"\xff\xbf", b"\xff\xd0", b"\xff\xf0"))
    scans = (SCAN * (HIDING // len(SCAN))).ljust(HIDING - 2, b"\0")
    found += (SCAN + marker + struct.pack(">H", HIDING) + scans) * random.choice((1, 6))
    return found + b"\xff\xd9"


def _segment(code: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(content) + 2) + content


AMPLIFICATIONS: dict[str, Forge] = {"JPEG": hide_scans, "MPO": hide_scans, "TIFF": share_bytes}
