"""A mask counts only when all of it has arrived."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.serving.png import png_size, verify_png


def png_of(mode: str, *, size: tuple[int, int] = (37, 11), **options: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 2, (size[1], size[0]), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, format="PNG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_whole_files_of_every_kind_pass(mode: str) -> None:
    data = png_of(mode)
    assert png_size(data) == (37, 11)
    verify_png(data)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indexed_files_of_every_depth_pass(bits: int) -> None:
    verify_png(png_of("P", bits=bits))


@pytest.mark.parametrize("data", [b"", b"<html>", png_of("L")[:-1], png_of("L")[:50]])
def test_what_is_cut_off_has_no_size(data: bytes) -> None:
    with pytest.raises(ValueError, match="PNG"):
        png_size(data)


def test_a_changed_byte_is_found() -> None:
    data = bytearray(png_of("L", size=(200, 200)))
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="is damaged"):
        verify_png(bytes(data))


def test_rows_that_are_missing_are_found() -> None:
    whole, short = png_of("L", size=(20, 20)), png_of("L", size=(20, 10))
    header = slice(8, 33)
    with pytest.raises(ValueError, match="20x20"):
        verify_png(short[:8] + whole[header] + short[33:])
