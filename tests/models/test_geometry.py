"""Image to network input, and logits back to a label for every pixel."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from models.geometry import normalise, resize_pixels
from models.manifest import InputSpec


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
