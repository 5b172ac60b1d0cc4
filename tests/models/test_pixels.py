"""Decoding: every mode and orientation becomes the same upright RGB."""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from models import PixelsError, pixels
from models.pixels import FORMATS, MAX_EXIF_BYTES, open_image, rgb_pixels, upright_size

ORIENTATION = 0x0112
WHITE = [255, 255, 255]
TO_STORED = {  # how an upright image is turned so that the orientation turns it back
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def decoded(content: bytes) -> Tensor:
    with open_image(content) as image:
        return rgb_pixels(image)


def noise(height: int = 24, width: int = 40, *, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def test_pixels_are_uint8_in_planes_stored_pixel_by_pixel() -> None:
    pixels = decoded(encoded(noise(), "PNG"))
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 24, 40)
    assert pixels.permute(1, 2, 0).is_contiguous()
    pixels += 0  # the tensor owns its memory: warnings about read-only arrays are errors here


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("BMP", {}),
    ],
)
def test_lossless_formats_are_decoded_exactly(file_format: str, options: dict[str, Any]) -> None:
    assert torch.equal(decoded(encoded(noise(), file_format, **options)), as_tensor(noise()))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_are_decoded_as_pillow_does(file_format: str) -> None:
    content = encoded(noise(), file_format)
    with Image.open(io.BytesIO(content)) as image:
        assert torch.equal(decoded(content), as_tensor(image))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
class TestOrientation:
    @staticmethod
    def stored(file_format: str, orientation: int) -> bytes:
        turn = TO_STORED[orientation]
        image = noise() if turn is None else noise().transpose(turn)
        options = {"lossless": True} if file_format == "WEBP" else {}
        return encoded(image, file_format, exif=exif(orientation), **options)

    def test_the_pixels_come_upright(self, file_format: str, orientation: int) -> None:
        pixels = decoded(self.stored(file_format, orientation))
        if file_format == "JPEG":  # lossy: held against Pillow's own turning
            with Image.open(io.BytesIO(self.stored(file_format, orientation))) as image:
                assert torch.equal(pixels, as_tensor(ImageOps.exif_transpose(image)))
        else:
            assert torch.equal(pixels, as_tensor(noise()))

    def test_the_upright_size_is_the_decoded_size(self, file_format: str, orientation: int) -> None:
        with open_image(self.stored(file_format, orientation)) as image:
            before = upright_size(image)
            assert rgb_pixels(image).shape[-2:] == before == (24, 40)
        assert before == (24, 40)


def of_mode(mode: str) -> Image.Image:
    if mode == "F":
        return Image.fromarray(np.asarray(noise().convert("L"), dtype=np.float32) / 255)
    if mode == "I;16":
        return Image.fromarray(np.asarray(noise().convert("L"), dtype=np.uint16) * 257)
    image = noise().convert(mode)
    if "A" in mode:
        image.putalpha(noise(seed=1).convert("L"))
    return image


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "RGBA", "LA", "I", "I;16", "F"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_converting_strip_by_strip_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int
) -> None:
    """Where the meaning of a value depends on the largest, it is the whole image's."""
    image = of_mode(mode)
    image.getexif()[ORIENTATION] = orientation
    whole = rgb_pixels(image)
    monkeypatch.setattr(pixels, "STRIP_PIXELS", 100)  # two rows of the 24
    assert torch.equal(rgb_pixels(image), whole)
    assert whole.shape == ((3, 24, 40) if orientation == 1 else (3, 40, 24))


class TestHeaderOnly:
    """The size is asked for before any pixel is decoded, to refuse what is too large."""

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_the_size_is_known_without_decoding(
        self, file_format: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_image(encoded(noise(), file_format)) as image:

            def load(_: Image.Image) -> None:
                raise AssertionError(f"{file_format} was decoded for its size")

            with monkeypatch.context() as patch:
                patch.setattr(type(image), "load", load)
                assert upright_size(image) == (24, 40)

    def test_a_png_that_claims_to_be_huge_costs_nothing_to_measure(self) -> None:
        def chunk(kind: bytes, data: bytes) -> bytes:
            checksum = struct.pack(">I", zlib.crc32(kind + data))
            return struct.pack(">I", len(data)) + kind + data + checksum

        header = struct.pack(">IIBBBBB", 6000, 5000, 8, 0, 0, 0, 0)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"\0" * 9)
        with open_image(content) as image:
            assert upright_size(image) == (5000, 6000)

    @pytest.mark.filterwarnings("ignore")  # Pillow's about the metadata
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize(
        "junk",
        [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\xff\xff\xff\xff"],
    )
    def test_unreadable_exif_data_is_passed_over(self, file_format: str, junk: bytes) -> None:
        content = encoded(Image.new("RGB", (40, 24), "red"), file_format, exif=junk)
        with open_image(content) as image:
            assert upright_size(image) == (24, 40)
        assert decoded(content).shape == (3, 24, 40)

    @pytest.mark.parametrize(("more", "upright"), [(0, (40, 24)), (MAX_EXIF_BYTES, (24, 40))])
    def test_so_is_what_grows_large_when_it_is_unpacked(
        self, more: int, upright: tuple[int, int]
    ) -> None:
        digits = (exif(6).tobytes() + bytes(more)).hex()
        info = PngInfo()
        info.add_text("Raw profile type exif", f"\nexif\n{more}\n{digits}", zip=True)
        with open_image(encoded(noise(), "PNG", pnginfo=info)) as image:
            assert upright_size(image) == upright

    @pytest.mark.parametrize(("more", "upright"), [(0, (40, 24)), (MAX_EXIF_BYTES, (24, 40))])
    def test_exif_data_out_of_all_proportion_is_passed_over(
        self, more: int, upright: tuple[int, int]
    ) -> None:
        """Pillow makes an object of each of its numbers."""
        content = encoded(noise(), "WEBP", exif=exif(6).tobytes() + bytes(more))
        with open_image(content) as image:
            assert upright_size(image) == upright
        assert decoded(content).shape[-2:] == upright


class TestModes:
    @staticmethod
    def first(image: Image.Image, file_format: str = "PNG", **options: Any) -> list[int]:
        """The decoded top left pixel."""
        pixel: list[int] = decoded(encoded(image, file_format, **options))[:, 0, 0].tolist()
        return pixel

    @pytest.mark.parametrize(
        ("alpha", "expected"), [(0, WHITE), (255, [200, 100, 0]), (51, [244, 224, 204])]
    )
    @pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
    def test_transparent_colour_is_laid_over_white(
        self, file_format: str, alpha: int, expected: list[int]
    ) -> None:
        image = Image.new("RGBA", (8, 8), (200, 100, 0, alpha))
        options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
        assert self.first(image, file_format, **options) == expected

    @pytest.mark.parametrize(("alpha", "expected"), [(0, WHITE), (255, [100] * 3), (51, [224] * 3)])
    def test_transparent_grey_is_laid_over_white(self, alpha: int, expected: list[int]) -> None:
        assert self.first(Image.new("LA", (8, 8), (100, alpha))) == expected

    def test_grey_becomes_three_equal_channels(self) -> None:
        assert self.first(Image.new("L", (8, 8), 77)) == [77, 77, 77]
        assert self.first(Image.new("L", (8, 8), 77), "TIFF") == [77, 77, 77]

    @pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "TIFF"])
    def test_a_palette_is_looked_up(self, file_format: str) -> None:
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        assert self.first(image, file_format) == [10, 20, 30]

    @pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
    def test_a_transparent_palette_entry_is_laid_over_white(
        self, transparency: int | bytes
    ) -> None:
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.putpixel((7, 7), 0)
        pixels = decoded(encoded(image, "PNG", transparency=transparency))
        assert pixels[:, 0, 0].tolist() == WHITE
        assert pixels[:, 7, 7].tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("mode", "color", "key"), [("L", 77, 77), ("RGB", (0, 200, 0), (0, 200, 0))]
    )
    def test_a_transparent_colour_key_is_laid_over_white(
        self, mode: str, color: int | tuple[int, ...], key: int | tuple[int, ...]
    ) -> None:
        """A PNG without an alpha channel can still name one colour as transparent."""
        assert self.first(Image.new(mode, (8, 8), color), transparency=key) == WHITE

    def test_cmyk_jpegs_are_converted(self) -> None:
        red, green, blue = self.first(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
        assert red > 245
        assert max(green, blue) < 10

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
    def test_one_bit_images_become_black_and_white(self, file_format: str) -> None:
        image = Image.new("1", (8, 8), 1)
        image.putpixel((7, 7), 0)
        pixels = decoded(encoded(image, file_format))
        assert pixels[:, 0, 0].tolist() == WHITE
        assert pixels[:, 7, 7].tolist() == [0, 0, 0]

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
    def test_sixteen_bits_keep_their_high_byte(self, file_format: str) -> None:
        values = np.array([[0, 0x00FF, 0x0100], [0x1234, 0xFEFF, 0xFFFF]], dtype=np.uint16)
        pixels = decoded(encoded(Image.fromarray(values), file_format))
        for channel in pixels:
            assert channel.tolist() == [[0, 0, 1], [0x12, 0xFE, 0xFF]]

    def test_big_endian_sixteen_bit_tiffs_are_read_as_such(self) -> None:
        header = b"MM\0*" + struct.pack(">I", 10) + struct.pack(">H", 0x1234)
        tags = [(256, 1), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
        entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
        entries += struct.pack(">HHII", 279, 4, 1, 2)
        content = header + struct.pack(">H", 9) + entries + struct.pack(">I", 0)
        assert decoded(content)[:, 0, 0].tolist() == [0x12] * 3

    @pytest.mark.parametrize("orientation", [3, 6])
    def test_sixteen_bit_images_are_turned_too(self, orientation: int) -> None:
        values = np.arange(6, dtype=np.uint16).reshape(2, 3) << 8
        content = encoded(Image.fromarray(values), "TIFF", exif=exif(orientation))
        expected = np.rot90(values >> 8, {3: 2, 6: -1}[orientation])
        assert decoded(content)[0].tolist() == expected.tolist()

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0.0, 0.5, 1.0], [0, 128, 255]),
            ([0.0, 100.4, 300.0], [0, 100, 255]),
            ([-1.0, float("nan"), 0.2], [0, 0, 51]),
        ],
    )
    def test_floats_count_as_fractions_unless_they_go_beyond_one(
        self, values: list[float], expected: list[int]
    ) -> None:
        image = Image.fromarray(np.array([values], dtype=np.float32))
        assert decoded(encoded(image, "TIFF"))[0, 0].tolist() == expected

    @pytest.mark.parametrize("file_format", ["GIF", "TIFF", "WEBP", "PNG"])
    def test_of_several_frames_the_first_is_taken(self, file_format: str) -> None:
        colors = ("red", "lime", "blue")
        first, *rest = [Image.new("RGB", (16, 16), color) for color in colors]
        options = {"lossless": True} if file_format == "WEBP" else {}
        content = encoded(first, file_format, save_all=True, append_images=rest, **options)
        assert decoded(content)[:, 8, 8].tolist() == [255, 0, 0]


class TestRefusal:
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
    @pytest.mark.parametrize("share", [0.5, 0.9])
    def test_truncated_images_are_refused(self, file_format: str, share: float) -> None:
        content = encoded(noise(96, 128), file_format)
        with pytest.raises(PixelsError):
            decoded(content[: int(len(content) * share)])

    @pytest.mark.parametrize("photograph", ["cat", "rocket"])
    def test_real_photographs_cut_in_half_are_refused(
        self, photographs: dict[str, Path], photograph: str
    ) -> None:
        content = photographs[photograph].read_bytes()
        with pytest.raises(PixelsError):
            decoded(content[: len(content) // 2])

    @pytest.mark.parametrize("length", [0, 1, 10, 1000])
    def test_random_bytes_are_refused(self, length: int) -> None:
        content = np.random.default_rng(0).bytes(length)
        with pytest.raises(PixelsError, match="not an image in one of the formats JPEG, PNG"):
            open_image(content)

    @pytest.mark.filterwarnings("ignore")  # Pillow's about the metadata
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_damaged_images_raise_nothing_but_pixels_errors(self, file_format: str) -> None:
        """Bytes overwritten in the header and behind it; some such files still decode."""
        content = encoded(noise(), file_format)
        random = np.random.default_rng(1)
        for _ in range(40):
            damaged = bytearray(content)
            for place in random.integers(8, min(len(content), 400), 6):
                damaged[place] = random.integers(256)
            with suppress(PixelsError), open_image(bytes(damaged)) as image:
                height, width = upright_size(image)
                if height * width < 1 << 20:
                    rgb_pixels(image)

    @pytest.mark.parametrize("file_format", ["ICO", "PPM", "TGA", "PCX", "SGI"])
    def test_formats_outside_the_list_are_refused(self, file_format: str) -> None:
        content = encoded(noise(32, 32), file_format)
        with Image.open(io.BytesIO(content)) as image:
            assert image.format == file_format  # Pillow itself would read it
        with pytest.raises(PixelsError, match="not an image in one of the formats"):
            open_image(content)

    @pytest.mark.parametrize("bits", [16, 64])
    def test_a_kind_that_is_not_read_is_told_from_another_format(
        self, bits: int, tmp_path: Path
    ) -> None:
        """Here grey floats of other than 32 bits."""
        content = encoded(noise().convert("L").convert("F"), "TIFF")
        entry = struct.pack("<HHI", 258, 3, 1)
        assert entry in content
        other = content.replace(entry + struct.pack("<I", 32), entry + struct.pack("<I", bits))
        (tmp_path / "x.tif").write_bytes(other)
        for source in (other, tmp_path / "x.tif"):
            with pytest.raises(PixelsError, match=r"this kind of TIFF is not read, or its header"):
                open_image(source)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(PixelsError, match=r"absent\.png: no such file"):
            open_image(tmp_path / "absent.png")

    def test_text_is_refused_from_a_file_too(self, tmp_path: Path) -> None:
        (tmp_path / "x.jpg").write_text("no image")
        with pytest.raises(PixelsError):
            open_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("turn", [lambda path: path, lambda path: path.read_bytes()])
def test_real_photographs_are_the_same_from_bytes_and_from_a_file(
    photographs: dict[str, Path], turn: Callable[[Path], bytes | Path]
) -> None:
    path = photographs["rocket"]
    with open_image(turn(path)) as image, Image.open(path) as reference:
        assert upright_size(image) == reference.size[::-1]
        assert torch.equal(rgb_pixels(image), as_tensor(reference))


def test_voc_photographs_are_decoded(real_data: Path) -> None:
    for path in sorted((real_data / "JPEGImages").glob("2007_*.jpg"))[:5]:
        with open_image(path) as image:
            size = upright_size(image)
            assert rgb_pixels(image).shape == (3, *size)


def test_decoding_buffers_are_large_enough_to_be_given_back() -> None:
    """glibc keeps freed blocks of up to 32 MiB for the thread that had them."""
    largest_kept = 32 << 20
    assert Image.core.get_block_size() > largest_kept  # type: ignore[attr-defined]
