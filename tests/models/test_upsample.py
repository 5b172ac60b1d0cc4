"""A label for every pixel: as the book has it, without the book's memory or time."""

from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import compiled, corners, numpy_segment, pixelwise, upsample
from models.corners import Corners
from models.devices import exact_device
from models.pixelwise import every_pixel
from models.samples import Samples
from models.upsample import Segmentation, segment_logits, segment_probabilities
from models.winners import Numbers, Values, winners
from tests.networks import random_images

SIZES = [  # (height, width) of the probabilities, and of the image
    pytest.param((32, 32), (32, 32), id="equal"),
    pytest.param((32, 32), (91, 77), id="larger"),
    pytest.param((64, 64), (17, 23), id="smaller"),
    pytest.param((33, 47), (480, 61), id="taller and wider, odd"),
    pytest.param((33, 47), (33, 100), id="equal height"),
    pytest.param((33, 47), (100, 47), id="equal width"),
    pytest.param((16, 64), (40, 20), id="taller and narrower"),
    pytest.param((16, 16), (1, 1), id="one pixel"),
    pytest.param((16, 16), (1, 3000), id="a row"),
    pytest.param((16, 16), (3000, 1), id="a column"),
    pytest.param((1, 1), (9, 7), id="from one pixel"),
]
sides = st.integers(1, 40)


@pytest.fixture(params=[1.0, 0.0], ids=["between classes", "every pixel"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of computing, whatever suits the image."""
    monkeypatch.setattr(numpy_segment, "MAX_MIXED", request.param)


def noise_of(num_classes: int, size: tuple[int, int], *, seed: int = 0) -> Tensor:
    """Probabilities whose winner changes from pixel to pixel."""
    return (3 * random_images(num_classes, *size, seed=seed)).softmax(0)


def regions_of(num_classes: int, size: tuple[int, int], *, seed: int = 0) -> Tensor:
    """Probabilities with regions of one class, as networks give."""
    coarse = 6 * random_images(1, num_classes, 4, 4, seed=seed)
    smooth = F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return smooth[0].softmax(0)


def few_of(num_classes: int, size: tuple[int, int], *, seed: int = 0) -> Tensor:
    """Noise between every third class; the others are nowhere in the picture."""
    logits = 3 * random_images(num_classes, *size, seed=seed)
    logits[[index for index in range(num_classes) if index % 3 != num_classes % 3]] -= 40
    return logits.softmax(0)


def assert_as_the_book_has_it(
    segmentation: Segmentation, probabilities: Tensor, size: tuple[int, int]
) -> None:
    """Resize everything, then take the largest. Rounding may turn a label only where two classes
    are as good as equal."""
    resized = F.interpolate(probabilities[None], size=size, mode="bilinear")[0]
    chosen = resized.gather(0, segmentation.labels.long()[None])[0]  # (H, W)
    assert (resized.amax(0) - chosen).max() < 1e-5
    assert (segmentation.labels == resized.argmax(0)).float().mean() > 0.999
    for index in range(len(probabilities)):
        where = segmentation.labels == index
        assert segmentation.pixels[index] == where.sum()
        expected = chosen[where].double().sum()
        assert torch.isclose(segmentation.confidence[index], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("size", "image_size"), SIZES)
@pytest.mark.parametrize("num_classes", [1, 2, 22])
@pytest.mark.parametrize("kind", [noise_of, regions_of, few_of])
def test_equals_the_computation_on_the_whole_image(kind, size, image_size, num_classes) -> None:  # type: ignore[no-untyped-def]
    probabilities = kind(num_classes, size)
    segmentation = segment_probabilities(probabilities, *image_size)
    assert_as_the_book_has_it(segmentation, probabilities, image_size)


@pytest.mark.usefixtures("way")
def test_a_class_can_win_between_pixels_none_of_which_it_wins() -> None:
    """What choosing at low resolution would miss."""
    probabilities = torch.tensor([[0.55, 0.05], [0.4, 0.4], [0.05, 0.55]]).view(3, 1, 2)
    assert winners(probabilities)[1].tolist() == [[0, 2]]
    segmentation = segment_probabilities(probabilities, 1, 6)
    assert segmentation.labels.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert segmentation.pixels.tolist() == [2, 2, 2]


@pytest.mark.usefixtures("way")
def test_a_class_can_win_with_little_more_than_a_quarter_of_the_highest() -> None:
    probabilities = torch.zeros(5, 2, 2)
    probabilities[:4].view(4, 4).fill_diagonal_(0.8)  # every corner is of a class of its own
    probabilities[4] = 0.2004
    segmentation = segment_probabilities(probabilities, 1, 1)
    assert segmentation.labels.tolist() == [[4]]
    assert segmentation.pixels.tolist() == [0, 0, 0, 0, 1]
    assert segmentation.confidence[4] == pytest.approx(0.2004)


@pytest.mark.usefixtures("way")
def test_a_class_can_win_with_a_little_less_than_its_equal_share() -> None:
    """Probabilities are rounded: their sum may be less than 1."""
    probabilities = torch.full((3, 8, 8), 0.33)
    probabilities[1, 2:5, 2:5] = 0.333
    probabilities[0, 0] = 0.9
    segmentation = segment_probabilities(probabilities, 8, 8)
    assert segmentation.pixels[1] == 9
    assert (segmentation.labels[2:5, 2:5] == 1).all()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("size", "image_size"), SIZES)
@pytest.mark.parametrize("limit", [1, 97])
def test_working_piece_by_piece_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], image_size: tuple[int, int], limit: int
) -> None:
    probabilities = noise_of(5, size)
    whole = segment_probabilities(probabilities, *image_size)
    monkeypatch.setattr(pixelwise, "MAX_STRIP", 5 * limit)
    monkeypatch.setattr(corners, "MAX_ELEMENTS", 5 * limit)
    monkeypatch.setattr(corners, "MAX_PIXELS", 7 * limit)
    pieces = segment_probabilities(probabilities, *image_size)
    assert torch.equal(pieces.labels, whole.labels)
    assert torch.equal(pieces.pixels, whole.pixels)
    assert torch.allclose(pieces.confidence, whole.confidence)


def test_pieces_are_no_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    interpolated = corners._interpolated

    def noting(lines: Values, positions: Numbers, *samples: Samples) -> Values:
        sizes.append(len(positions))
        return interpolated(lines, positions, *samples)

    monkeypatch.setattr(numpy_segment, "MAX_MIXED", 1.0)
    monkeypatch.setattr(corners, "MAX_ELEMENTS", 5 * 60)
    monkeypatch.setattr(corners, "_interpolated", noting)
    segment_probabilities(noise_of(5, (16, 16)), 50, 60)
    assert max(sizes) == 60
    assert sum(sizes) <= 50 * 60


@pytest.mark.parametrize(("kind", "every"), [(noise_of, True), (regions_of, False)])
def test_what_is_little_but_noise_is_computed_row_by_row(
    monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Tensor], every: bool
) -> None:
    called = Mock(wraps=every_pixel)
    monkeypatch.setattr(numpy_segment, "every_pixel", called)
    segment_probabilities(kind(5, (64, 64)), 100, 100)
    assert called.called == every


def test_a_row_too_long_for_memory_is_never_computed_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numpy_segment, "MAX_ROW", 5 * 1000)
    monkeypatch.setattr(numpy_segment, "every_pixel", None)
    assert segment_probabilities(noise_of(5, (4, 64)), 2, 1001).pixels.sum() == 2002


@pytest.mark.usefixtures("way")
def test_types_are_as_promised() -> None:
    segmentation = segment_probabilities(noise_of(5, (8, 8)), 20, 30)
    assert segmentation.labels.dtype == torch.uint8
    assert segmentation.labels.shape == (20, 30)
    assert segmentation.pixels.dtype == torch.int64
    assert segmentation.pixels.shape == (5,)
    assert segmentation.confidence.dtype == torch.float64
    assert segmentation.confidence.shape == (5,)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("level", [1e-3, 0.0, torch.nan])
def test_numbers_that_are_no_probabilities_have_an_answer_as_well(level: float) -> None:
    """Every class is below what the highest of probabilities cannot be below."""
    segmentation = segment_probabilities(torch.full((4, 3, 3), level), 5, 5)
    assert segmentation.pixels.sum() == 25
    assert segmentation.labels.max() < 4


def test_only_classes_that_can_be_chosen_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    called = Mock(wraps=Corners)
    monkeypatch.setattr(numpy_segment, "Corners", called)
    segment_probabilities(few_of(22, (32, 32)), 50, 60)
    planes, classes = called.call_args.args
    assert classes.tolist() == [1, 4, 7, 10, 13, 16, 19]
    assert planes.shape == (7, 32, 32)


def test_only_classes_that_come_near_the_lowest_winner_are_interpolated() -> None:
    planes = np.array([0.8, 0.1, 0.19, 0.3], np.float32)[:, None, None] * np.ones((1, 3, 3))
    found = Corners(planes.astype(np.float32), np.array([2, 5, 6, 9]))
    assert found.classes.tolist() == [2, 9]
    assert found.planes.shape == (2, 3, 3)


def test_what_is_computed_is_computed_where_there_is_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Mock(wraps=exact_device)
    monkeypatch.setattr(upsample, "exact_device", asked)
    segment_probabilities(noise_of(3, (4, 4)), 5, 5)
    asked.assert_called_once_with(torch.device("cpu"))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [(8, 8), (20, 30)])
def test_other_numbers_become_float32_first(dtype: torch.dtype, size: tuple[int, int]) -> None:
    probabilities = noise_of(5, (8, 8)).to(dtype)
    expected = segment_probabilities(probabilities.float(), *size)
    found = segment_probabilities(probabilities, *size)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.confidence, expected.confidence)


@pytest.mark.usefixtures("way")
def test_the_order_of_the_elements_in_memory_does_not_matter() -> None:
    probabilities = noise_of(22, (32, 24))
    batch = probabilities[None].contiguous(memory_format=torch.channels_last)
    expected = segment_probabilities(probabilities, 50, 60)
    assert torch.equal(segment_probabilities(batch[0], 50, 60).labels, expected.labels)


@pytest.mark.usefixtures("way")
def test_255_classes_fit_a_mask() -> None:
    probabilities = torch.zeros(255, 2, 2)
    probabilities[254, 0, 0] = 1
    probabilities[0, 1, 1] = 1
    labels = segment_probabilities(probabilities, 5, 5).labels
    assert (int(labels[0, 0]), int(labels[4, 4])) == (254, 0)


@settings(deadline=None, max_examples=60)
@given(height=sides, width=sides, image_height=sides, image_width=sides)
def test_every_pixel_is_counted_once(
    height: int, width: int, image_height: int, image_width: int
) -> None:
    segmentation = segment_probabilities(noise_of(3, (height, width)), image_height, image_width)
    total = image_height * image_width
    assert segmentation.pixels.sum() == total
    assert 0 < segmentation.confidence.sum() <= total * (1 + 1e-6)
    counts = torch.bincount(segmentation.labels.flatten().long(), minlength=3)
    assert torch.equal(segmentation.pixels, counts)


@pytest.fixture(params=[True, False], ids=["compiled", "by NumPy"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(compiled, "library", lambda: None)


@pytest.mark.usefixtures("either")
class TestSegmentLogits:
    def test_is_the_softmax_before_it_is_interpolated(self) -> None:
        logits = 3 * random_images(22, 32, 32)
        segmentation = segment_logits(logits, 77, 91)
        assert_as_the_book_has_it(segmentation, logits.softmax(0), (77, 91))

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
    def test_half_precision_logits_are_what_they_are_in_float32(self, dtype: torch.dtype) -> None:
        logits = (3 * random_images(22, 32, 32)).to(dtype)
        expected = segment_logits(logits.float(), 77, 91)
        assert torch.equal(segment_logits(logits, 77, 91).labels, expected.labels)
