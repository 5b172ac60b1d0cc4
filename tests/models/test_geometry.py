"""Image to network input, and logits back to a label for every pixel."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from models import geometry
from models.geometry import (
    Segmentation,
    normalise,
    resize_pixels,
    resize_rows,
    segment_logits,
)
from models.manifest import InputSpec
from tests.networks import random_images

SIZES = [  # (height, width) of the logits, and of the image
    pytest.param((32, 32), (32, 32), id="equal"),
    pytest.param((32, 32), (91, 77), id="larger"),
    pytest.param((64, 64), (17, 23), id="smaller"),
    pytest.param((33, 47), (480, 61), id="taller and wider, odd"),
    pytest.param((33, 47), (33, 100), id="equal height"),
    pytest.param((33, 47), (100, 47), id="equal width"),
    pytest.param((16, 16), (1, 1), id="one pixel"),
    pytest.param((1, 1), (9, 7), id="from one pixel"),
]
sides = st.integers(1, 40)


def logits_of(num_classes: int, size: tuple[int, int], *, seed: int = 0) -> Tensor:
    return 3 * random_images(num_classes, *size, seed=seed)


def assert_as_whole(segmentation: Segmentation, logits: Tensor, size: tuple[int, int]) -> None:
    """Against the book: resize the whole image, softmax, argmax. Rounding may turn a label only
    where two classes are as good as equal."""
    resized = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    chosen = resized.gather(0, segmentation.labels.long()[None])[0]  # (H, W)
    assert (resized.max(0).values - chosen).max() < 1e-3
    confidence = resized.softmax(0).max(0).values
    for index in range(logits.shape[0]):
        where = segmentation.labels == index
        assert segmentation.pixels[index] == where.sum()
        expected = confidence[where].double().sum()
        assert torch.isclose(segmentation.confidence[index], expected, rtol=1e-3, atol=1e-3)


class TestSegmentLogits:
    @pytest.mark.parametrize(("size", "image_size"), SIZES)
    @pytest.mark.parametrize("num_classes", [1, 2, 22])
    def test_equals_the_computation_on_the_whole_image(
        self, size: tuple[int, int], image_size: tuple[int, int], num_classes: int
    ) -> None:
        logits = logits_of(num_classes, size)
        segmentation = segment_logits(logits, *image_size)
        assert_as_whole(segmentation, logits, image_size)

    @pytest.mark.parametrize(("size", "image_size"), SIZES)
    @pytest.mark.parametrize("strip_elements", [1, 22 * 77 * 3, 22 * 480 * 16])
    def test_strips_change_nothing(
        self,
        monkeypatch: pytest.MonkeyPatch,
        size: tuple[int, int],
        image_size: tuple[int, int],
        strip_elements: int,
    ) -> None:
        logits = logits_of(22, size)
        monkeypatch.setattr(geometry, "STRIP_ELEMENTS", strip_elements)
        assert_as_whole(segment_logits(logits, *image_size), logits, image_size)

    def test_works_in_strips_no_larger_than_the_limit(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        strips = []
        resize = resize_rows

        def noting(logits: Tensor, height: int, width: int, top: int, bottom: int) -> Tensor:
            strip = resize(logits, height, width, top, bottom)
            strips.append((top, bottom, strip.numel()))
            return strip

        monkeypatch.setattr(geometry, "STRIP_ELEMENTS", 5 * 60 * 7)
        monkeypatch.setattr(geometry, "resize_rows", noting)
        segment_logits(logits_of(5, (16, 16)), 50, 60)
        assert [top for top, _, _ in strips] == list(range(0, 50, 7))
        assert strips[-1][1] == 50
        assert max(elements for _, _, elements in strips) == 5 * 60 * 7

    def test_types_are_as_promised(self) -> None:
        segmentation = segment_logits(logits_of(5, (8, 8)), 20, 30)
        assert segmentation.labels.dtype == torch.uint8
        assert segmentation.labels.shape == (20, 30)
        assert segmentation.pixels.dtype == torch.int64
        assert segmentation.pixels.shape == (5,)
        assert segmentation.confidence.dtype == torch.float64
        assert segmentation.confidence.shape == (5,)

    def test_classes_that_never_win_count_zero(self) -> None:
        logits = torch.zeros(4, 8, 8)
        logits[2] = 5
        segmentation = segment_logits(logits, 16, 16)
        assert segmentation.pixels.tolist() == [0, 0, 256, 0]
        assert segmentation.confidence[[0, 1, 3]].tolist() == [0, 0, 0]
        expected = 256 * torch.tensor([0.0, 0.0, 5.0, 0.0]).softmax(0)[2].item()
        assert segmentation.confidence[2].item() == pytest.approx(expected)

    def test_large_logits_do_not_overflow(self) -> None:
        logits = torch.full((3, 4, 4), -1e4)
        logits[1] = 1e4
        segmentation = segment_logits(logits, 8, 8)
        assert segmentation.pixels.tolist() == [0, 64, 0]
        assert segmentation.confidence.tolist() == pytest.approx([0, 64, 0])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_logits_are_resized_in_float32(self, dtype: torch.dtype) -> None:
        logits = logits_of(22, (32, 32)).to(dtype)
        assert_as_whole(segment_logits(logits, 77, 91), logits.float(), (77, 91))

    def test_the_order_of_the_elements_in_memory_does_not_matter(self) -> None:
        logits = logits_of(22, (32, 24))
        batch = logits[None].contiguous(memory_format=torch.channels_last)
        expected = segment_logits(logits, 50, 60)
        assert torch.equal(segment_logits(batch[0], 50, 60).labels, expected.labels)

    def test_255_classes_fit_a_mask(self) -> None:
        logits = torch.zeros(255, 2, 2)
        logits[254, 0, 0] = 1
        assert segment_logits(logits, 2, 2).labels[0, 0] == 254

    @settings(deadline=None, max_examples=40)
    @given(height=sides, width=sides, image_height=sides, image_width=sides)
    def test_every_pixel_is_counted_once(
        self, height: int, width: int, image_height: int, image_width: int
    ) -> None:
        segmentation = segment_logits(logits_of(3, (height, width)), image_height, image_width)
        total = image_height * image_width
        assert segmentation.pixels.sum() == total
        assert 0 < segmentation.confidence.sum() <= total * (1 + 1e-6)


class TestResizeRows:
    @settings(deadline=None, max_examples=60)
    @given(
        height=sides,
        width=sides,
        image_height=sides,
        image_width=sides,
        cuts=st.lists(sides, max_size=4),
    )
    def test_the_pieces_make_up_the_whole(
        self, height: int, width: int, image_height: int, image_width: int, cuts: list[int]
    ) -> None:
        logits = logits_of(3, (height, width))
        edges = sorted({0, image_height, *(cut for cut in cuts if cut < image_height)})
        pieces = [
            resize_rows(logits, image_height, image_width, top, bottom)
            for top, bottom in pairwise(edges)
        ]
        whole = F.interpolate(
            logits[None], size=(image_height, image_width), mode="bilinear", align_corners=False
        )[0]
        assert torch.allclose(torch.cat(pieces, 1), whole, rtol=1e-4, atol=1e-4)

    def test_an_equal_size_copies_the_rows_exactly(self) -> None:
        logits = logits_of(3, (20, 30))
        assert torch.equal(resize_rows(logits, 20, 30, 5, 9), logits[:, 5:9])

    def test_doubling_weights_neighbours_three_to_one(self) -> None:
        logits = torch.tensor([0.0, 4.0]).view(1, 2, 1)
        assert resize_rows(logits, 4, 1, 0, 4).flatten().tolist() == [0, 1, 3, 4]


class TestNormalise:
    SPEC = InputSpec(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), stride=8)

    def test_is_x_over_255_minus_mean_over_std(self) -> None:
        pixels = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.SPEC.mean, self.SPEC.std))
        expected = (pixels / 255 - mean) / std
        actual = normalise(pixels, self.SPEC)
        assert actual.dtype == torch.float32
        assert torch.allclose(actual, expected, atol=1e-6)

    def test_black_and_white_land_where_the_formula_says(self) -> None:
        pixels = torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 2)
        assert normalise(pixels, self.SPEC)[:, 0].tolist() == [[-1, 1], [-1, 3], [0, 1]]

    def test_a_batch_is_normalised_as_its_images_are(self) -> None:
        batch = torch.randint(0, 256, (4, 3, 5, 7), dtype=torch.uint8)
        alone = torch.stack([normalise(image, self.SPEC) for image in batch])
        assert torch.equal(normalise(batch, self.SPEC), alone)

    def test_the_pixels_are_left_as_they_were(self) -> None:
        pixels = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
        before = pixels.clone()
        normalise(pixels, self.SPEC)
        assert torch.equal(pixels, before)


class TestResizePixels:
    @staticmethod
    def photograph(height: int, width: int) -> Tensor:
        """Smooth colours with edges, as photographs have."""
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        channels = [(rows * 3) % 256, (columns * 5) % 256, 255 * ((rows + columns) % 16 > 7)]
        return torch.stack(channels).to(torch.uint8)

    @pytest.mark.parametrize("size", [(40, 60), (31, 77), (200, 300), (8, 9)])
    def test_is_pillows_bilinear_resize_to_within_rounding(self, size: tuple[int, int]) -> None:
        pixels = self.photograph(120, 160)
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        expected = image.resize(size[::-1], Image.Resampling.BILINEAR)
        difference = resize_pixels(pixels, *size).int() - torch.from_numpy(
            np.array(expected)
        ).permute(2, 0, 1)
        assert difference.abs().max() <= 1

    def test_shrinking_averages_rather_than_skips(self) -> None:
        stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
        stripes[:, :, ::2] = 255
        shrunk = resize_pixels(stripes, 8, 8)[:, 1:-1, 1:-1]
        assert shrunk.min() > 110
        assert shrunk.max() < 145

    def test_an_equal_size_returns_the_pixels_unchanged(self) -> None:
        pixels = self.photograph(20, 30)
        assert torch.equal(resize_pixels(pixels, 20, 30), pixels)

    def test_the_result_is_uint8_of_the_asked_size(self) -> None:
        resized = resize_pixels(self.photograph(20, 30), 33, 17)
        assert resized.dtype == torch.uint8
        assert resized.shape == (3, 33, 17)

    def test_pixels_stored_height_width_channel_give_the_same(self) -> None:
        pixels = self.photograph(40, 50)
        interleaved = pixels.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        assert torch.equal(resize_pixels(interleaved, 20, 20), resize_pixels(pixels, 20, 20))


def test_a_column_is_not_widened_before_it_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round a column of a million pixels is held at a million times the width."""
    sizes = []
    resize = functional.resize

    def spy(pixels: Tensor, size: list[int], antialias: bool) -> Tensor:
        sizes.append(tuple(size))
        resized: Tensor = resize(pixels, size, antialias=antialias)
        return resized

    monkeypatch.setattr(functional, "resize", spy)
    column = torch.full((3, 5000, 1), 7, dtype=torch.uint8)
    assert torch.equal(resize_pixels(column, 32, 32), torch.full((3, 32, 32), 7, dtype=torch.uint8))
    assert sizes == [(32, 1), (32, 32)]
