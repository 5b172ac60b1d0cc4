"""JPEGs as cameras and programs write them: their pixels without Pillow's detours."""

from typing import IO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "MPO")  # the second holds further pictures behind the first
MODES = ("RGB", "L")
SCAN, END = b"\xff\xda", b"\xff\xd9"
TAIL_BYTES = 1 << 16  # where the end of the picture is looked for: some programs write behind it
MAX_SCANS = 30  # encoders write ten; each is a pass over the whole picture


def ordinary_jpeg(image: Image.Image) -> NDArray[np.uint8] | None:
    """uint8 (H, W, 3) as stored, bit for bit what Pillow decodes but in two thirds of the time:
    Pillow copies the pixels twice, and keeps Python's lock meanwhile. None for what is not a JPEG
    or not as it should be: Pillow decides what becomes of that."""
    if image.format not in FORMATS or image.mode not in MODES:
        return None
    stream: IO[bytes] | None = getattr(image, "fp", None)
    if stream is None:  # loaded before
        return None
    stream.seek(0)
    content = stream.read()
    if not _looks_complete(content):  # or it would be decoded twice
        return None
    return decoded_jpeg(content, image.height, image.width)


def decoded_jpeg(content: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
    """uint8 (height, width, 3) as stored; None where libjpeg finds fault or another size."""
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    try:
        found = simplejpeg.decode_jpeg(content, "RGB", buffer=pixels)
    except ValueError:
        return None
    return pixels if found.shape == pixels.shape else None


def _looks_complete(content: bytes) -> bool:
    is_ended = content.rfind(END, max(0, len(content) - TAIL_BYTES)) >= 0
    return is_ended and content.count(SCAN) <= MAX_SCANS
