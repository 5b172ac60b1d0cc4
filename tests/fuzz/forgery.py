"""Lies that know the format: files that are well formed, checksums and all, and say what is not."""

import struct
import zlib
from collections.abc import Callable
from random import Random

from tests.fuzz.damage import Order, number, packed

Forge = Callable[[bytearray, Random], bytearray]
Pieces = list[bytearray]


def forge_png(content: bytearray, random: Random) -> bytearray:
    """Chunks: dropped, doubled, moved, changed inside, lengthened in name only."""
    pieces = _png_chunks(content)
    if not pieces:
        return content
    which = random.randrange(len(pieces))
    chunk = pieces[which]
    match random.randrange(6):
        case 0:
            _reorder(pieces, which, random)
        case 1:  # IHDR: size, depth, colour, interlace
            place, size = random.choice(((4, 4), (8, 4), (12, 1), (13, 1), (16, 1)))
            pieces[0][place : place + size] = packed(_size(random), size, "big")
        case 2 if len(chunk) > 4:
            place = random.randrange(4, len(chunk))
            chunk[place : place + 4] = packed(number(random), 4, "big")
        case 3:
            kind = random.choice(
                (b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"gAMA")
            )
            inside = random.choice(
                (b"", b"x\0\0", b"MM\0*\0\0\0\x08\xff\xff", random.randbytes(30))
            )
            packing = zlib.compress(bytes(random.choice((0, 1000, 2_000_000))))
            pieces.insert(random.randrange(1, len(pieces) + 1), bytearray(kind + inside + packing))
        case 4:
            pieces[which : which + 1] = [chunk] * random.choice((2, 5, 5000))
        case _:
            lie = _png(pieces)
            place = lie.find(bytes(chunk[:4])) - 4
            lie[max(place, 8) : max(place, 8) + 4] = packed(number(random), 4, "big")
            return lie
    return _png(pieces)


def forge_jpeg(content: bytearray, random: Random) -> bytearray:
    """Segments: dropped, doubled, moved, wrong lengths, wrong sizes, scans over and over."""
    pieces = _jpeg_segments(content)
    if len(pieces) < 3:
        return content
    which = random.randrange(1, len(pieces))
    segment = pieces[which]
    match random.randrange(6):
        case 0:
            _reorder(pieces, which, random)
        case 1 if len(segment) >= 4:
            segment[2:4] = packed(number(random), 2, "big")
        case 2:
            for piece in pieces:
                if len(piece) > 9 and piece[1] in (0xC0, 0xC1, 0xC2):
                    place = random.choice((4, 5, 7, 9, 11))
                    piece[place : place + 2] = packed(_size(random), 2, "big")
        case 3:
            body = random.choice(
                (b"Exif\0\0MM\0*\0\0\0\x08", b"ICC_PROFILE\0\x01\x09", b"MPF\0II*\0", b"Adobe")
            )
            code = random.choice((0xE0, 0xE1, 0xE2, 0xEE, 0xED))
            body += random.randbytes(random.choice((0, 1, 20, 60_000)))
            new = struct.pack(">BBH", 0xFF, code, len(body) + 2) + body
            pieces.insert(which, bytearray(new * random.choice((1, 1, 30, 1500))))
        case 4:
            pieces[-1:] = [bytearray(pieces[-1])] * random.choice((2, 20, 300))
        case _ if len(segment) > 4:
            segment[random.randrange(4, len(segment))] = number(random) & 0xFF
    return bytearray(b"".join(pieces))


def forge_tiff(content: bytearray, random: Random) -> bytearray:
    """An entry of a directory: its tag, type, count, and value or offset."""
    order: Order = "little" if content[:2] == b"II" else "big"
    is_big = b"+" in content[2:4]
    offset, entry, head = (8, 20, 8) if is_big else (4, 12, 2)
    start = int.from_bytes(content[offset : offset + offset], order)
    count = int.from_bytes(content[start : start + head], order)
    if not 0 < count < 1000 or start + head + entry > len(content):
        return content
    for _ in range(random.choice((1, 1, 2))):
        at = start + head + entry * random.randrange(count)
        field, size = random.choice(
            ((0, 2), (2, 2), (4, offset), (4 + offset, offset), (4 + offset, 2))
        )
        value = _tag(random) if field == 0 else number(random)
        content[at + field : at + field + size] = packed(value, size, order)
    if random.random() < 0.1:
        content[start : start + head] = packed(number(random), head, order)
    return content


def forge_webp(content: bytearray, random: Random) -> bytearray:
    """RIFF chunks: dropped, doubled, moved, sizes that lie, canvas and flags."""
    pieces = _riff_chunks(content)
    if not pieces:
        return content
    which = random.randrange(len(pieces))
    chunk = pieces[which]
    match random.randrange(4):
        case 0:
            _reorder(pieces, which, random)
        case 1 if len(chunk) > 8:
            place = random.randrange(8, min(len(chunk), 40))
            chunk[place : place + 3] = packed(_size(random), 3, "little")
        case 2:
            chunk[4:8] = packed(number(random), 4, "little")
        case _:
            kind = random.choice((b"EXIF", b"ICCP", b"XMP ", b"ANIM", b"ANMF", b"ALPH", b"VP8X"))
            body = random.randbytes(random.choice((0, 10, 1000)))
            pieces.insert(which, bytearray(kind + struct.pack("<I", len(body)) + body))
    body = b"".join(pieces)
    return bytearray(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)


def forge_gif(content: bytearray, random: Random) -> bytearray:
    """Screen, frame and palette: their sizes and flags; blocks before the first frame."""
    frame = content.find(b",", 13)
    match random.randrange(4):
        case 0:
            content[6:10] = packed(_size(random), 2, "little") + packed(_size(random), 2, "little")
        case 1:
            content[10] = random.randrange(256)
        case 2 if frame > 0:
            place = frame + random.choice((1, 3, 5, 7))
            content[place : place + 2] = packed(_size(random), 2, "little")
            content[frame + 9 : frame + 10] = packed(number(random), 1, "little")
        case _ if frame > 0:
            block = (
                random.choice((b"!\xfe", b"!\xf9", b"!\xff", b"!\x01")) + b"\x04abcd" * 3 + b"\0"
            )
            content[frame:frame] = block * random.choice((1, 100, 20_000))
    return content


def forge_bmp(content: bytearray, random: Random) -> bytearray:
    """A field of the header: offset, size, planes, depth, compression, colours."""
    place, size = random.choice(
        ((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4), (50, 4))
    )
    value = random.choice((1, 2, 3, 4)) if place == 30 else _size(random)
    content[place : place + size] = packed(value, size, "little")
    return content


FORGERIES: dict[str, Forge] = {
    "JPEG": forge_jpeg,
    "MPO": forge_jpeg,
    "PNG": forge_png,
    "TIFF": forge_tiff,
    "WEBP": forge_webp,
    "GIF": forge_gif,
    "BMP": forge_bmp,
}


def _size(random: Random) -> int:
    """Of a picture: none, one, a line, just over and under limits, and any number."""
    return random.choice((0, 1, 2, 100, 1999, 2000, 2001, 30_000, 65_535, number(random)))


def _tag(random: Random) -> int:
    return random.choice(
        (
            256,
            257,
            258,
            259,
            262,
            266,
            273,
            274,
            277,
            278,
            279,
            282,
            284,
            317,
            320,
            322,
            323,
            324,
            330,
            338,
            339,
            530,
            700,
            34665,
            34675,
            34853,
        )
    )


def _reorder(pieces: Pieces, which: int, random: Random) -> None:
    piece = pieces.pop(which)
    if random.random() < 0.5:
        pieces.insert(random.randrange(len(pieces) + 1), piece)


def _png_chunks(content: bytearray) -> Pieces:
    """Kind and content of each, without length and checksum."""
    pieces, place = [], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        pieces.append(content[place + 4 : place + 8 + length])
        place += 12 + length
    return pieces


def _png(pieces: Pieces) -> bytearray:
    """With the lengths and checksums that belong to what the chunks hold."""
    found = bytearray(b"\x89PNG\r\n\x1a\n")
    for piece in pieces:
        found += (
            struct.pack(">I", max(len(piece) - 4, 0)) + piece + struct.pack(">I", zlib.crc32(piece))
        )
    return found


def _jpeg_segments(content: bytearray) -> Pieces:
    """The start, each segment, and everything from the first scan on."""
    pieces, place = [content[:2]], 2
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != 0xDA:
        length = 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        pieces.append(content[place : place + length])
        place += length
    return [*pieces, content[place:]]


def _riff_chunks(content: bytearray) -> Pieces:
    pieces, place = [], 12
    while place + 8 <= len(content):
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        pieces.append(content[place : place + 8 + length + length % 2])
        place += 8 + length + length % 2
    return pieces
