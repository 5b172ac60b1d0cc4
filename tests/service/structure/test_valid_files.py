"""Pictures as programs store them come through the limits and show what was stored."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.upload import Upload, decode, read_header
from tests.service.colours import Pixels

MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK")
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "PNG": [{}, {"optimize": True}, {"compress_level": 0}],
    "BMP": [{}],
    "GIF": [{}, {"interlace": 1}, {"comment": "a" * 5000}],
    "WEBP": [{"lossless": True}, {"lossless": True, "exact": True}],
    "JPEG": [
        {"quality": 95, "subsampling": 0},
        {"quality": 95, "subsampling": 0, "progressive": True},
        {"quality": 95, "subsampling": 0, "restart_marker_blocks": 1},
        {"quality": 95, "subsampling": 0, "comment": b"a" * 60_000},
    ],
    "TIFF": [
        {"compression": compression, **layout}
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
        for layout in ({}, {"big_tiff": True}, {"tiffinfo": {278: 7}})
    ],
}
LACKING = {
    ("PNG", "CMYK"),
    ("BMP", "CMYK"),
    ("JPEG", "P"),
    ("JPEG", "RGBA"),
    *(("WEBP", mode) for mode in ("1", "P", "CMYK")),
    *(("GIF", mode) for mode in ("RGB", "RGBA", "CMYK")),  # it chooses colours
}
CASES = [
    pytest.param(format, mode, options, id=f"{format} {mode} {options}")
    for format, kinds in OPTIONS.items()
    for mode in MODES
    if (format, mode) not in LACKING
    for options in kinds
]


def picture() -> Image.Image:
    """64x48, red from left to right, green downwards."""
    pixels: Pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(64) * 4, np.arange(48)[:, None] * 5
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("format", "mode", "options"), CASES)
def test_what_was_stored_is_seen(format: str, mode: str, options: dict[str, Any]) -> None:
    stored = picture().quantize(64) if mode == "P" else picture().convert(mode)
    stream = BytesIO()
    stored.save(stream, format, **options)
    upload = Upload(None, stream.getvalue())
    header = read_header(upload, max_pixels=64 * 48)
    assert header.pixels == 64 * 48
    found = decode(upload, header).permute(1, 2, 0).numpy()
    wanted = np.asarray(stored.convert("RGB")).astype(int)
    assert found.shape == wanted.shape
    bound = 4 if format == "JPEG" and mode != "1" else 40 if format == "JPEG" else 0
    assert np.abs(found - wanted).mean() <= bound
