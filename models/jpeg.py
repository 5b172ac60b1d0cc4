"""JPEGs as cameras and programs write them: which they are, and their pixels without Pillow's
detours."""

from typing import IO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "MPO")  # the second holds further pictures behind the first
MODES = ("RGB", "L")
PLAIN_SAMPLINGS = (  # 4:4:4, 4:2:2, 4:2:0, and grey, where others mean nothing and nvJPEG errs
    ((1, 1), (1, 1), (1, 1)),
    ((2, 1), (1, 1), (1, 1)),
    ((2, 2), (1, 1), (1, 1)),
    ((1, 1),),
)
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
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    try:
        found = simplejpeg.decode_jpeg(content, "RGB", buffer=pixels)
    except ValueError:
        return None
    return pixels if found.shape == pixels.shape else None


def is_plain_jpeg(image: Image.Image, content: bytes) -> bool:
    """Whether every decoder reads its pixels alike, but for rounding, if it has one scan: grey or
    YCbCr, sampled as cameras do. `image` is `content`, opened."""
    if image.format != "JPEG" or image.mode not in MODES:
        return False
    if "progressive" in image.info or not _is_ended(content):
        return False
    numbers, sampling = _components(image)
    return sampling in PLAIN_SAMPLINGS and (image.mode == "L" or _is_ycbcr(image, numbers))


def _components(image: Image.Image) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Their numbers, and how often each is sampled across and down."""
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    return tuple(layer[0] for layer in layers), tuple(layer[1:3] for layer in layers)


def _is_ycbcr(image: Image.Image, numbers: tuple[int, ...]) -> bool:
    """Beyond doubt: where nothing says so, decoders go by habits of their own."""
    is_told = "jfif" in image.info or numbers == (1, 2, 3)
    return is_told and image.info.get("adobe_transform", 1) == 1


def _looks_complete(content: bytes) -> bool:
    return _is_ended(content) and content.count(SCAN) <= MAX_SCANS


def _is_ended(content: bytes) -> bool:
    return content.rfind(END, max(0, len(content) - TAIL_BYTES)) >= 0
