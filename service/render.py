"""The mask as a file: an indexed PNG that is the class map and the colour picture in one.

Written here rather than by Pillow, whose encoder takes five times as long for a mask as igzip
takes to compress it: masks are long runs, and a PNG around them is four chunks.
"""

import struct
from itertools import chain

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from models.classes import ClassSet

SIGNATURE = b"\x89PNG\r\n\x1a\n"
INDEXED = 3  # colour type
LEVEL = 1  # of igzip; 2 and 3 take longer and save little
BAND_BYTES = 1 << 20  # packed at a time: a mask of a hundred megapixels is not held twice

Pixels = NDArray[np.uint8]


def indexed_png(labels: Pixels, class_set: ClassSet) -> bytes:
    """uint8 (H, W) labels -> PNG whose palette is the class colours, with 1, 2, 4 or 8 bits for a
    pixel: as few as the classes need."""
    height, width = labels.shape
    bits = _bits(len(class_set))
    palette = bytes(chain.from_iterable(entry.color for entry in class_set.classes))
    return b"".join(
        (
            SIGNATURE,
            *_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, INDEXED, 0, 0, 0)),
            *_chunk(b"PLTE", palette),
            *_chunk(b"IDAT", *_compressed(labels, bits)),
            *_chunk(b"IEND"),
        )
    )


def _bits(num_classes: int) -> int:
    return next(bits for bits in (1, 2, 4, 8) if num_classes <= 1 << bits)


def _chunk(kind: bytes, *parts: bytes) -> tuple[bytes, ...]:
    """Length, kind, content and checksum, as PNG has them (W3C, section 5.3)."""
    checksum = isal_zlib.crc32(kind)
    for part in parts:
        checksum = isal_zlib.crc32(part, checksum)
    length = sum(len(part) for part in parts)
    return (struct.pack(">I", length), kind, *parts, struct.pack(">I", checksum))


def _compressed(labels: Pixels, bits: int) -> list[bytes]:
    height, width = labels.shape
    step = max(1, BAND_BYTES // width)
    # not isal_zlib.compress, whose bytes are not always the same for the same labels
    stream = isal_zlib.compressobj(LEVEL)
    parts = [
        stream.compress(_lines(labels[top : top + step], bits)) for top in range(0, height, step)
    ]
    return [*parts, stream.flush()]


def _lines(labels: Pixels, bits: int) -> Pixels:
    """uint8 (h, w) -> the lines of a PNG: pixels packed, the first in the highest bits, and before
    each line the number of its filter, which is none: labels have no slope to predict."""
    height, width = labels.shape
    pixels = 8 // bits  # of a byte
    lines = np.empty((height, 1 + -(-width // pixels)), dtype=np.uint8)
    lines[:, 0] = 0
    if pixels == 1:
        lines[:, 1:] = labels
        return lines
    np.left_shift(labels[:, ::pixels], 8 - bits, out=lines[:, 1:])
    for place in range(1, pixels):
        some = labels[:, place::pixels]
        lines[:, 1 : 1 + some.shape[1]] |= some << (8 - bits * (place + 1))
    return lines
