"""Image files, good and bad, that tests upload."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

from tests.service.colours import PAINT, Pixels, encoded, plain

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def upright_picture() -> Pixels:
    """uint8 (20, 30, 3): red above, blue below, so that a turned or mirrored copy differs."""
    picture = plain(1, 30, 20)
    picture[10:] = PAINT[3]
    return picture


def turned_jpeg() -> bytes:
    """The upright picture as a camera on its side stores it: 20x30 and an orientation of 6."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise for viewing
    stored = Image.fromarray(np.rot90(upright_picture()))
    return encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_claiming(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG whose header claims a size and whose data is `rows`, compressed."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(chunk(kind, content) for kind, content in parts)


def png_with_chunk(kind: bytes, content: bytes) -> bytes:
    """A good red PNG with one more chunk before its pixels."""
    good = encoded(plain(1, 12, 10))
    place = good.index(b"IDAT") - 4
    return good[:place] + chunk(kind, content) + good[place:]


def several_frames(format: str) -> bytes:
    """A red frame of 24x16, then blue ones."""
    frames = [Image.fromarray(plain(class_id, 24, 16)) for class_id in (1, 3, 3)]
    stream = BytesIO()
    frames[0].save(stream, format=format, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def grey_16_bit(format: str) -> bytes:
    """16-bit samples of a dark grey, 24x16."""
    return encoded(Image.fromarray(np.full((16, 24), 0x0A80, dtype=np.uint16)), format)


def red_in_mode(mode: str, format: str) -> bytes:
    """24x16, red or, where the mode has no colour, dark."""
    red = Image.fromarray(plain(1, 24, 16))
    if mode in ("L", "LA", "1"):
        red = Image.new("RGB", (24, 16), (8, 8, 8))
    return encoded(red.convert(mode), format)


def noise(format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(pixels, format)
