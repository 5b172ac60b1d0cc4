"""Averaging the answers to mirrored and rescaled images."""

import pytest
import torch
from torch import Tensor

from tests.networks import random_images
from trainer.evaluation.tta import TestTimeAugmentation


def brightness(images: Tensor) -> Tensor:
    """Two classes, pixel by pixel: (N, 3, h, w) -> (N, 2, h, w)."""
    return images[:, :2] * 3


def position(images: Tensor) -> Tensor:
    """Says 1 on the left half and 0 on the right, whatever it sees."""
    logits = torch.zeros(len(images), 2, *images.shape[-2:])
    logits[:, 1, :, : images.shape[-1] // 2] = 4
    return logits


def test_the_answer_is_the_logarithm_of_the_mean_probability() -> None:
    images = random_images(2, 3, 8, 12)
    answer = TestTimeAugmentation(scales=(1.0,)).around(position)(images)
    straight = position(images).softmax(1)
    torch.testing.assert_close(answer.exp(), (straight + straight.flip(-1)) / 2)
    torch.testing.assert_close(answer.softmax(1), answer.exp())


def test_a_network_that_looks_at_pixels_alone_is_not_moved_by_mirroring() -> None:
    images = random_images(1, 3, 9, 13)
    answer = TestTimeAugmentation(scales=(1.0,)).around(brightness)(images)
    torch.testing.assert_close(answer, brightness(images).log_softmax(1))


def test_every_scale_is_shown_in_rounded_sizes_and_brought_back() -> None:
    sizes: list[tuple[int, ...]] = []

    def recorded(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape[-2:]))
        return brightness(images)

    looks = TestTimeAugmentation()
    answer = looks.around(recorded)(random_images(1, 3, 30, 50))
    assert sizes == [(22, 38)] * 2 + [(30, 50)] * 2 + [(38, 62)] * 2
    assert len(sizes) == looks.passes
    assert answer.shape == (1, 2, 30, 50)


def test_a_pixel_keeps_its_place_at_every_scale() -> None:
    images = torch.zeros(1, 3, 32, 32)
    images[..., :16, 16:] = 5
    answer = TestTimeAugmentation().around(lambda x: torch.cat([x[:, :1], 2 - x[:, :1]], 1))(images)
    chosen = answer.argmax(1)[0]
    assert (chosen[:14, 18:] == 0).all()
    assert (chosen[18:] == 1).all()
    assert (chosen[:, :14] == 1).all()


def test_a_probability_of_zero_stays_finite() -> None:
    def certain(images: Tensor) -> Tensor:
        return torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).expand(1, 2, *images.shape[-2:])

    answer = TestTimeAugmentation().around(certain)(random_images(1, 3, 8, 8))
    assert answer.isfinite().all()
    assert (answer.argmax(1) == 0).all()


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0)])
def test_scales_that_cannot_be_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="scales"):
        TestTimeAugmentation(scales=scales)


def test_it_says_what_it_does() -> None:
    assert str(TestTimeAugmentation()) == "flip, scales 0.75, 1, 1.25"
    assert str(TestTimeAugmentation(flip=False, scales=(1.0,))) == "scales 1"
