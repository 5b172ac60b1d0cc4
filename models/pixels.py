"""From an encoded or opened image to RGB pixels, the same way for training and serving."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.errors import PixelsError

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")

# Pillow's own limit warns or raises in the middle of opening; ours is checked by the caller
# between reading the header and decoding, where the size can be named.
Image.MAX_IMAGE_PIXELS = None

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
        raise PixelsError(f"not an image in one of the formats {', '.join(FORMATS)}") from error


def rgb_pixels(image: Image.Image) -> Tensor:
    """Decodes the first frame upright (EXIF orientation) as uint8 (3, H, W), stored H, W, 3.

    Transparency is laid over white; 16-bit and float images are scaled to 8 bits. Raises
    PixelsError when the data is truncated or broken.
    """
    try:
        turn = TURNS.get(_orientation(image))  # before loading: see there
        image.load()
        upright = image if turn is None else image.transpose(turn)
        array = np.array(_to_rgb(upright))  # (H, W, 3)
    except Exception as error:  # decoders raise anything on hostile bytes
        raise PixelsError(f"the image data is broken: {error}") from error
    return torch.from_numpy(array).permute(2, 0, 1)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) after EXIF orientation, from the header alone."""
    width, height = image.size
    return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def _orientation(image: Image.Image) -> int:
    """1 to 8, from the header alone; 1 where the metadata cannot be read."""
    if image.format == "TIFF":
        return 1  # Pillow gives a TIFF's size upright and turns its pixels while loading
    try:
        # not PngImageFile's own, which decodes the pixels to look for a chunk behind them
        return int(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # noqa: BLE001 - decoders raise anything on hostile bytes
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _high_depth_to_grey(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _high_depth_to_grey(image: Image.Image) -> Image.Image:
    """16-bit samples keep their high byte; floats count as 0..1, and 32-bit integers as 0..255,
    unless they go beyond."""
    array = np.asarray(image)
    if image.mode == "F":
        finite = np.nan_to_num(array, nan=0.0, posinf=255.0, neginf=0.0)
        scale = 255.0 if finite.max(initial=0.0) <= 1.0 else 1.0
        grey = np.clip(np.rint(finite * scale), 0, 255)
    else:
        wide = np.clip(array, 0, 65535).astype(np.int64)
        # 32-bit files are used for 8-bit values too; a 16-bit file means its full range
        is_8_bit = image.mode == "I" and wide.max(initial=0) <= 255
        grey = wide if is_8_bit else wide >> 8
    return Image.fromarray(grey.astype(np.uint8))
