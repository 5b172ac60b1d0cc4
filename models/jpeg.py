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
START, SCAN, END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
BASELINE = b"\xff\xc0"
OTHER_FRAMES = frozenset(  # progressive, lossless, arithmetic; C4, C8 and CC are no frames
    bytes((0xFF, code)) for code in range(0xC1, 0xD0) if code not in (0xC4, 0xC8, 0xCC)
)
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
    """Whether every decoder reads its pixels alike, but for rounding, if it is not damaged and has
    one scan: baseline, grey or YCbCr, sampled as cameras do. `image` is `content`, opened."""
    if image.format != "JPEG" or image.mode not in MODES:
        return False
    begin = scan_begin(content)
    if begin is None or not _is_ended(content, begin):
        return False
    numbers, sampling = _components(image)
    return sampling in PLAIN_SAMPLINGS and (image.mode == "L" or _is_ycbcr(image, numbers))


def scan_begin(content: bytes) -> int | None:
    """Where the first scan of a baseline JPEG begins, whose segments lie one behind the other; None
    for others."""
    place, is_baseline = len(START), False
    while content.startswith(START) and place + 4 <= len(content) and content[place] == 0xFF:
        code = content[place : place + 2]
        if code == SCAN:
            return place if is_baseline else None
        if code in OTHER_FRAMES:
            return None
        is_baseline = is_baseline or code == BASELINE
        place += 2 + max(2, int.from_bytes(content[place + 2 : place + 4], "big"))
    return None


def _components(image: Image.Image) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Their numbers, and how often each is sampled across and down."""
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    return tuple(layer[0] for layer in layers), tuple(layer[1:3] for layer in layers)


def _is_ycbcr(image: Image.Image, numbers: tuple[int, ...]) -> bool:
    """Beyond doubt: where nothing says so, decoders go by habits of their own."""
    is_told = numbers == (1, 2, 3) or (numbers == (0, 1, 2) and "jfif" in image.info)
    return is_told and image.info.get("adobe_transform", 1) == 1


def _looks_complete(content: bytes) -> bool:
    return _is_ended(content) and content.count(SCAN) <= MAX_SCANS


def _is_ended(content: bytes, begin: int = 0) -> bool:
    """Behind `begin`: thumbnails have an end of their own."""
    return content.rfind(END, max(begin, len(content) - TAIL_BYTES)) >= 0
