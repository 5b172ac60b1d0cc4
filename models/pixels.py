"""From an encoded or opened image to RGB pixels, the same way for training and serving."""

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from models.errors import PixelsError
from models.jpeg import ordinary_jpeg

Pixels = NDArray[np.uint8]

# EXIF orientation -> the place of the stored image within the upright one, (H, W, ...) both
PLACES: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}
SIGNATURE_BYTES = 16
STRIP_PIXELS = 1 << 22  # converted at a time: an image is decoded once, not held three times over
MAX_EXIF_BYTES = 1 << 20  # it has 64 KiB where it has a limit; a million numbers take seconds
EXIF_KEYS = ("exif", "Raw profile type exif")  # of `info`; the second is in digits
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")

# Pillow's own limit warns or raises in the middle of opening; ours is checked by the caller
# between reading the header and decoding, where the size can be named.
Image.MAX_IMAGE_PIXELS = None

# Colour profiles of scanners and the histories that editors keep have some megabytes; for all
# texts together Pillow's limit of 64 MiB stays.
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20

# Blocks of this size go back to the kernel with their image; Pillow's own 16 MiB fall below the
# allocator's threshold and pile up, gigabytes of them, in the threads that decode.
BLOCK_BYTES = 64 << 20
Image.core.set_block_size(BLOCK_BYTES)  # type: ignore[attr-defined]


def open_image(source: bytes | Path) -> Image.Image:
    """Reads the header only, so `size` can be checked before any pixel is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is not the reader's business
            if isinstance(source, Path):
                return Image.open(source, formats=FORMATS)
            return Image.open(io.BytesIO(source), formats=FORMATS)
    except FileNotFoundError as error:
        raise PixelsError(f"{source!s}: no such file") from error
    except Exception as error:  # decoders raise anything on hostile bytes
        raise PixelsError(_unopened(source)) from error


def _unopened(source: bytes | Path) -> str:
    """Why: of another format, or of one of ours but broken or of a kind that is not read."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            prefix = stream.read(SIGNATURE_BYTES)
    except OSError as error:
        return f"{source!s}: {error.strerror or error}"
    for format in FORMATS:
        _, accept = Image.OPEN.get(format, (None, None))  # none where another failed before it
        if accept is not None and accept(prefix):
            return f"this kind of {format} is not read, or its header is broken"
    return f"not an image in one of the formats {', '.join(FORMATS)}"


def rgb_pixels(image: Image.Image, *, by_pillow: bool = False) -> Tensor:
    """Decodes the first frame upright (EXIF orientation) as uint8 (3, H, W), stored H, W, 3.

    Transparency is laid over white; 16-bit and float images are scaled to 8 bits. Raises
    PixelsError when the data is truncated or broken. `by_pillow` is for JPEGs with which
    `decoded_jpeg` was tried before.
    """
    try:
        height, width = upright_size(image)  # before loading: see `orientation`
        place = PLACES.get(orientation(image))
        found = None if by_pillow else ordinary_jpeg(image)
        if found is not None and place is None:
            return torch.from_numpy(found).permute(2, 0, 1)
        upright = np.empty((height, width, 3), dtype=np.uint8)
        stored = upright if place is None else place(upright)
        if found is not None:
            stored[:] = found
            return torch.from_numpy(upright).permute(2, 0, 1)
        image.load()
        to_rgb = _conversion(image)
        for top, strip in _strips(image):
            stored[top : top + strip.height] = to_rgb(strip)
    except MemoryError:  # says nothing of the image
        raise
    except Exception as error:  # decoders raise anything on hostile bytes
        raise PixelsError(f"the image data is broken: {error}") from error
    return torch.from_numpy(upright).permute(2, 0, 1)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) after EXIF orientation, from the header alone."""
    width, height = image.size
    return (width, height) if orientation(image) in (5, 6, 7, 8) else (height, width)


def orientation(image: Image.Image) -> int:
    """1 to 8, from the header alone; 1 where the metadata cannot be read."""
    if image.format == "TIFF":
        return 1  # Pillow gives a TIFF's size upright and turns its pixels while loading
    if any(len(image.info.get(key, b"")) > MAX_EXIF_BYTES for key in EXIF_KEYS):
        return 1
    try:
        # not PngImageFile's own, which decodes the pixels to look for a chunk behind them
        return int(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # noqa: BLE001 - decoders raise anything on hostile bytes
        return 1


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """From top to bottom, each with its first row; the whole where that is small."""
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _conversion(image: Image.Image) -> Callable[[Image.Image], NDArray[Any]]:
    """What makes 8-bit RGB, or a grey plane as (H, W, 1), of a strip of this image."""
    if image.mode == "F":
        peak = max(float(_finite(strip).max(initial=0.0)) for _, strip in _strips(image))
        scale = 255.0 if peak <= 1.0 else 1.0
        return lambda strip: np.clip(np.rint(_finite(strip) * scale), 0, 255)[..., None]
    if image.mode.startswith("I"):
        # 32-bit files are used for 8-bit values too; a 16-bit file means its full range
        peak = max(int(_wide(strip).max(initial=0)) for _, strip in _strips(image))
        is_8_bit = image.mode == "I" and peak < 256
        return lambda strip: (_wide(strip) if is_8_bit else _wide(strip) >> 8)[..., None]
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return lambda strip: np.asarray(_over_white(strip))
    return lambda strip: np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _over_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _finite(image: Image.Image) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.asarray(image)
    return np.nan_to_num(array, nan=0.0, posinf=255.0, neginf=0.0)


def _wide(image: Image.Image) -> NDArray[np.int64]:
    wide: NDArray[np.int64] = np.asarray(image).clip(0, 65535).astype(np.int64)
    return wide
