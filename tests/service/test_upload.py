"""From bytes to pixels: what is read, what is refused, and that training reads the same."""

import resource
import time
import warnings
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from simplejpeg import decode_jpeg
from torch import Tensor

from models.geometry import normalise
from models.jpeg import decoded_jpeg
from models.pixels import open_image, rgb_pixels
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from service.errors import BadImageError, ServiceError, TooLargeError
from service.upload import Upload, decode, read_header, read_plain_jpeg, require_size
from tests.service.clients import client_for, settings_for
from tests.service.colours import colour_manifest, encoded, picture_of, plain, save_colours
from tests.service.images import (
    grey_16_bit,
    png_claiming,
    png_with_chunk,
    red_in_mode,
    several_frames,
    turned_jpeg,
    upright_picture,
)
from trainer.data.augment import plain_pair
from trainer.data.dataset import EvaluationSet, VocFolder

PLENTY = 10_000_000


def pixels_of(content: bytes, *, max_pixels: int = PLENTY) -> torch.Tensor:
    upload = Upload("photo", content)
    return decode(upload, read_header(upload, max_pixels=max_pixels))


class TestDecode:
    def test_a_lossless_image_comes_back_exactly(self) -> None:
        picture = picture_of(31, 17)
        pixels = pixels_of(encoded(picture))
        assert pixels.dtype == torch.uint8
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), picture)

    def test_a_photograph_taken_sideways_is_turned_upright(self) -> None:
        pixels = pixels_of(turned_jpeg())
        assert pixels.shape == (3, 20, 30)
        difference = pixels.permute(1, 2, 0).int() - torch.from_numpy(upright_picture()).int()
        assert difference.abs().float().mean() < 8

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation_ends_upright(self, orientation: int) -> None:
        stored = upright_picture()
        if orientation in (5, 6, 7, 8):
            stored = np.rot90(stored)
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encoded(Image.fromarray(stored), "PNG", exif=exif)
        assert pixels_of(content).shape == (3, 20, 30)

    def test_transparent_parts_are_white(self) -> None:
        image = Image.new("RGBA", (4, 2), (250, 0, 0, 0))
        assert bool((pixels_of(encoded(image)) == 255).all())

    def test_16_bit_samples_keep_their_high_byte(self) -> None:
        for format in ("PNG", "TIFF"):
            assert bool((pixels_of(grey_16_bit(format)) == 0x0A).all())

    @pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
    def test_the_first_of_several_frames_is_taken(self, format: str) -> None:
        pixels = pixels_of(several_frames(format))
        assert pixels.shape == (3, 16, 24)
        red, _, blue = pixels.float().mean((1, 2)).tolist()
        assert red > 200
        assert blue < 60


class TestRefusals:
    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"hello, world", id="text"),
            pytest.param(bytes(10_000), id="zeros"),
            pytest.param(encoded(plain(1, 16, 16), "ICO"), id="ICO"),
            pytest.param(encoded(plain(1, 16, 16), "PPM"), id="PPM"),
            pytest.param(b"%PDF-1.7\n%%EOF", id="PDF"),
            pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
        ],
    )
    def test_what_is_no_supported_image_is_refused_with_the_formats(self, content: bytes) -> None:
        with pytest.raises(BadImageError, match="JPEG, PNG, WEBP, TIFF, BMP, GIF"):
            pixels_of(content)

    @pytest.mark.parametrize(
        ("content", "format"), [(b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff\xe0", "JPEG")]
    )
    def test_a_signature_alone_is_called_what_it_begins(self, content: bytes, format: str) -> None:
        with pytest.raises(
            BadImageError, match=f"this kind of {format} is not read, or its header"
        ):
            pixels_of(content)

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
    def test_a_truncated_image_is_refused(self, format: str) -> None:
        random = np.random.default_rng(0)
        noise = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        content = encoded(noise, format)
        with pytest.raises(BadImageError):
            pixels_of(content[: len(content) // 2])

    def test_damaged_pixels_are_refused(self) -> None:
        content = bytearray(encoded(picture_of(64, 64)))
        place = content.index(b"IDAT") + 12
        content[place : place + 40] = bytes(40)
        with pytest.raises(BadImageError, match="broken"):
            pixels_of(bytes(content))

    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            (b"eXIf", b"zz"),
            (b"eXIf", b"II*\x00"),
            (b"tEXt", b"Raw profile type exif\x00\nexif\n   4\nzzzz"),
        ],
        ids=["no TIFF", "half a TIFF", "no hexadecimal"],
    )
    def test_broken_metadata_is_the_image_s_fault_or_nobody_s(
        self, kind: bytes, content: bytes
    ) -> None:
        try:
            shape = pixels_of(png_with_chunk(kind, content)).shape
        except BadImageError:
            return
        assert shape == (3, 10, 12)

    def test_too_many_pixels_are_refused_with_size_and_limit(self) -> None:
        content = encoded(plain(1, 40, 30))
        assert pixels_of(content, max_pixels=1200).shape == (3, 30, 40)
        with pytest.raises(TooLargeError, match="40x30 = 1200 pixels, the limit is 1199"):
            pixels_of(content, max_pixels=1199)

    @pytest.mark.usefixtures("bounded_memory")
    @pytest.mark.parametrize(("width", "height"), [(1, 1_000_001), (90_000_000, 1)])
    def test_a_line_is_refused_whatever_its_area(self, width: int, height: int) -> None:
        """What is computed for every row or column would take gigabytes."""
        with pytest.raises(TooLargeError, match=f"{width}x{height} pixels, the limit of a side"):
            pixels_of(png_claiming(width, height, bytes(100)), max_pixels=100_000_000)

    @pytest.mark.usefixtures("bounded_memory")
    @pytest.mark.parametrize("rows", [b"", bytes(100)], ids=["no data", "few data"])
    def test_a_header_that_claims_60000_by_60000_is_refused(self, rows: bytes) -> None:
        with pytest.raises(TooLargeError, match="60000x60000"):
            pixels_of(png_claiming(60_000, 60_000, rows))

    @pytest.mark.usefixtures("bounded_memory")
    def test_the_limit_holds_before_any_pixel_is_decoded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loaded: list[tuple[int, int]] = []
        original = Image.Image.load

        def load(image: Image.Image) -> object:
            loaded.append(image.size)
            return original(image)

        bomb = png_claiming(6000, 6000, bytes(6000 * (1 + 3 * 6000)))  # 108 MB in 100 KB
        monkeypatch.setattr("PIL.Image.Image.load", load)
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        with pytest.raises(TooLargeError):
            pixels_of(bomb, max_pixels=6000 * 6000 - 1)
        assert loaded == []
        assert time.perf_counter() - began < 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000

    def test_sizes_in_bytes_are_checked_to_the_byte(self) -> None:
        require_size(Upload(None, bytes(100)), 100)
        with pytest.raises(TooLargeError, match="101 bytes, the limit is 100"):
            require_size(Upload(None, bytes(101)), 100)
        with pytest.raises(BadImageError, match="empty"):
            require_size(Upload(None, b""), 100)


SAMPLES = [
    encoded(picture_of(20, 12), "PNG"),
    encoded(picture_of(20, 12), "GIF"),
    encoded(picture_of(20, 12), "BMP"),
    encoded(picture_of(20, 12), "TIFF"),
    encoded(picture_of(20, 12), "TIFF", compression="tiff_lzw"),
    encoded(picture_of(20, 12), "WEBP", lossless=True),
    turned_jpeg(),
    encoded(picture_of(60, 40), "JPEG"),
    png_with_chunk(b"eXIf", b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00"),
]


def as_pillow_reads_it(content: bytes) -> Tensor:
    with open_image(content) as image:
        return rgb_pixels(image)


def test_plain_jpegs_are_decoded_past_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(picture_of(70, 50, seed=1), "JPEG")
    expected = as_pillow_reads_it(content)
    monkeypatch.setattr("PIL.Image.open", None)
    assert torch.equal(pixels_of(content), expected)


def test_of_damaged_jpegs_pillow_decides_what_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(picture_of(700, 500, seed=1), "JPEG")
    content = content[: len(content) // 2] + content[-2:]  # the lower half is missing
    assert read_plain_jpeg(Upload(None, content), max_pixels=PLENTY) is not None
    assert decoded_jpeg(content, 500, 700) is None
    expected = as_pillow_reads_it(content)
    tried = Mock(wraps=decode_jpeg)
    monkeypatch.setattr("simplejpeg.decode_jpeg", tried)
    assert torch.equal(pixels_of(content), expected)
    tried.assert_called_once()


@pytest.mark.usefixtures("bounded_memory")
@settings(max_examples=300, deadline=None)
@given(
    content=st.sampled_from(SAMPLES),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    length=st.integers(0, 4000),
)
def test_damaged_files_are_read_or_refused_and_nothing_else(
    content: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about odd metadata
        try:
            pixels = pixels_of(bytes(damaged[: max(length, 1)]), max_pixels=100_000)
        except ServiceError:
            return
    assert pixels.dtype == torch.uint8
    assert pixels.shape[0] == 3
    assert 0 < pixels.shape[1] * pixels.shape[2] <= 100_000


SHARED_FILES = {
    "photo.jpg": encoded(picture_of(70, 50, seed=1), "JPEG"),
    "same.png": encoded(picture_of(32, 32, seed=2)),
    "turned.jpg": turned_jpeg(),
    "transparent.png": encoded(Image.new("RGBA", (30, 40), (200, 30, 20, 90))),
    "deep.tif": grey_16_bit("TIFF"),
    "frames.webp": several_frames("WEBP"),
    "grey.bmp": red_in_mode("L", "BMP"),
}


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every unit that reaches the device from now on."""
    seen: list[Tensor] = []
    original = TorchEngine.run

    def run(engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
        seen.extend(pixels)
        return original(engine, pixels, alone=alone)

    monkeypatch.setattr(TorchEngine, "run", run)
    return seen


class TestSameAsTraining:
    @pytest.mark.parametrize("file", SHARED_FILES)
    def test_the_network_sees_what_the_trainer_evaluates(
        self, tmp_path: Path, units: list[Tensor], file: str
    ) -> None:
        """Bit for bit, for every kind of file, after the resize and after the normalisation."""
        manifest = colour_manifest(height=32, width=48)
        save_colours(tmp_path / "models" / "colours.pth", height=32, width=48)
        root = tmp_path / "voc"
        for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (root / part).mkdir(parents=True)
        (root / "JPEGImages" / file).write_bytes(SHARED_FILES[file])
        voc = VocFolder.open(root)
        image = voc.read_image(Path(file).stem)
        mask = Image.new("L", (image.shape[2], image.shape[1]))
        mask.save(voc.mask_path(Path(file).stem))
        evaluated = EvaluationSet(voc, [Path(file).stem], manifest.input)[0][0]

        with client_for(create_app(settings_for(tmp_path / "models"))) as client:
            units.clear()  # those of the warm-up
            assert client.post("/segment", content=SHARED_FILES[file]).status_code == 200

        (served,) = units
        assert torch.equal(served, evaluated)
        plain_image, _ = plain_pair(image, torch.zeros(image.shape[-2:], dtype=torch.uint8), 32, 48)
        assert torch.equal(served, plain_image)
        assert torch.equal(normalise(served, manifest.input), normalise(evaluated, manifest.input))
