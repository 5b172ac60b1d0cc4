"""segment.c as compiled here, with each set of instructions that this processor has."""

from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torch import Tensor

from models import compiled, cpu_segment
from models.pixelwise import every_pixel
from models.winners import Labels, Numbers, Values
from tests.networks import random_images

Found = tuple[Labels, Numbers, NDArray[np.float64]]

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "planes": lambda logits: logits,
    "channels last": lambda logits: logits.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    "bfloat16, channels last": lambda logits: LAYOUTS["channels last"](logits.bfloat16()),
    "bfloat16 planes": lambda logits: logits.bfloat16(),
    "float16": lambda logits: logits.half(),
    "float64, columns first": lambda logits: logits.double().mT.contiguous().mT,
}


def noise(num_classes: int, height: int, width: int) -> Tensor:
    return 3 * random_images(num_classes, height, width)


def by_the_book(logits: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    num_classes = len(logits)
    probabilities = logits.double().softmax(0).float()
    return every_pixel(probabilities, torch.arange(num_classes), height, width, num_classes)


def assert_equal(found: Found, other: Found) -> None:
    for index in range(3):
        assert np.array_equal(found[index], other[index])


def assert_as_the_book_has_it(found: Found, logits: Tensor, height: int, width: int) -> None:
    labels, pixels, confidence = by_the_book(logits, height, width)
    other = np.count_nonzero(found[0] != labels.numpy())
    assert other < 0.001 * labels.numel()  # rounding decides between as good as equals
    assert found[1].tolist() == np.bincount(found[0].ravel(), minlength=len(logits)).tolist()
    assert np.abs(found[1] - pixels.numpy()).sum() <= 2 * other
    assert np.allclose(found[2], confidence.numpy(), rtol=1e-5, atol=other + 1e-3)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize(
    ("source", "image"),
    [
        pytest.param((20, 300), (31, 700), id="several parts of a row"),
        pytest.param((4, 700), (5, 9000), id="several stripes"),
        pytest.param((9, 2000), (7, 90), id="parts of many columns of the source"),
        pytest.param((3, 1500), (5, 4), id="parts without a column of the image"),
        pytest.param((3, 2049), (3, 2049), id="a column more than so many parts have"),
        pytest.param((9, 3), (30, 70), id="fewer columns than a vector has lanes"),
        pytest.param((17, 31), (17, 31), id="equal"),
    ],
)
@pytest.mark.parametrize("num_classes", [1, 3, 40])
def test_labels_counts_and_sums(
    source: tuple[int, int], image: tuple[int, int], num_classes: int
) -> None:
    logits = noise(num_classes, *source)
    assert_as_the_book_has_it(cpu_segment.segment(logits, *image), logits, *image)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("num_classes", [1, 2, 3, 4, 5, 7, 8, 9, 16, 22, 256])
def test_logits_are_read_as_they_lie(num_classes: int, layout: str) -> None:
    """Of what a whole batch has, and beyond which there is nothing else."""
    batch = torch.stack([noise(num_classes, 5, 37), noise(num_classes, 5, 37).flip(0)])
    for logits in (LAYOUTS[layout](each) for each in batch):
        found = cpu_segment.segment(logits, 11, 50)
        assert_as_the_book_has_it(found, logits.float(), 11, 50)
        assert_equal(found, cpu_segment.segment(logits.float().contiguous(), 11, 50))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_part_of_them_is_as_if_it_were_alone(layout: str) -> None:
    part = LAYOUTS[layout](noise(12, 40, 60))[:, 3:33, 8:49]
    found = cpu_segment.segment(part, 50, 70)
    alone = part.clone(memory_format=torch.contiguous_format)
    assert_equal(found, cpu_segment.segment(alone, 50, 70))


@pytest.mark.usefixtures("instructions")
@settings(deadline=None, max_examples=60)
@given(
    values=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12),
        elements=st.floats(-200, 200, width=32) | st.sampled_from([np.inf, -np.inf, np.nan, -0.0]),
    ),
    layout=st.sampled_from(["planes", "channels last", "bfloat16, channels last"]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_whatever_the_numbers_are(values: Values, layout: str, height: int, width: int) -> None:
    """What is no number has the last class, and shows in its sum."""
    logits = LAYOUTS[layout](torch.from_numpy(values))
    labels, pixels, confidence = cpu_segment.segment(logits, height, width)
    assert pixels.tolist() == np.bincount(labels.ravel(), minlength=len(values)).tolist()
    expected = by_the_book(logits, height, width)
    assert np.array_equal(np.isnan(confidence), np.isnan(expected[2].numpy()))
    if np.isfinite(values).all():
        total = expected[2].sum().item()
        assert confidence.sum() == pytest.approx(total, rel=1e-5, abs=1e-5)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, -1, -0x400000])
def test_no_number_is_one_whatever_its_bits_are(bits: int) -> None:
    """GPUs have others than processors, and weights keep them."""
    logits = noise(5, 3, 30)
    logits.view(torch.int32)[3, 1, 20] = bits
    assert np.isnan(cpu_segment.segment(logits, 3, 30)[2][4])


@pytest.mark.usefixtures("instructions")
def test_the_softmax_is_exact_to_a_few_units_in_the_last_place() -> None:
    for below in torch.linspace(0, 10, 1000):
        logits = torch.stack([torch.zeros(1, 1), -below.view(1, 1)])
        confidence = cpu_segment.segment(logits, 1, 1)[2]
        assert confidence[0] == pytest.approx(logits.double().softmax(0)[0].item(), rel=3e-7)


@pytest.mark.usefixtures("instructions")
def test_large_logits_do_not_overflow() -> None:
    logits = torch.full((256, 4, 40), -1e4)
    logits[1] = 1e4
    labels, _, confidence = cpu_segment.segment(logits, 8, 80)
    assert (labels == 1).all()
    assert confidence[1] == pytest.approx(640)


@pytest.mark.usefixtures("instructions")
def test_the_lowest_of_equals_is_chosen() -> None:
    logits = torch.full((9, 6, 7), -0.1)
    logits[[2, 5, 8]] = 0.2
    labels, pixels, _ = cpu_segment.segment(logits, 20, 30)
    assert (labels == 2).all()
    assert pixels.tolist() == [0, 0, 600, 0, 0, 0, 0, 0, 0]


@pytest.mark.usefixtures("instructions")
def test_the_lowest_of_equals_is_chosen_beside_what_is_no_number_too() -> None:
    logits = torch.zeros(3, 2, 40)
    logits[1, 0, 5] = torch.nan
    labels, pixels, _ = cpu_segment.segment(logits, 2, 80)
    assert (labels[:, 13:] == 0).all()
    assert pixels[1] == 0


@pytest.mark.usefixtures("instructions")
def test_a_class_can_win_between_pixels_none_of_which_it_wins() -> None:
    """What choosing at low resolution would miss."""
    probabilities = torch.tensor([[0.55, 0.05], [0.4, 0.4], [0.05, 0.55]]).view(3, 1, 2)
    labels, pixels, _ = cpu_segment.segment(probabilities.log(), 1, 6)
    assert labels.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert pixels.tolist() == [2, 2, 2]


@pytest.mark.usefixtures("instructions")
def test_a_class_can_win_with_little_more_than_a_quarter_of_the_highest() -> None:
    probabilities = torch.zeros(5, 2, 2)
    probabilities[:4].view(4, 4).fill_diagonal_(0.7996)  # every corner is of a class of its own
    probabilities[4] = 0.2004
    labels, pixels, confidence = cpu_segment.segment(probabilities.log(), 1, 1)
    assert labels.tolist() == [[4]]
    assert pixels.tolist() == [0, 0, 0, 0, 1]
    assert confidence[4] == pytest.approx(0.2004)


COLUMNS = (0, 5, 8, 15, 16, 62, 63, 64, 65, 127, 128, 129, 300, 639, 640, 641, 691, 692, 699)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("width", [1400, 700, 350, 10])
@pytest.mark.parametrize("row", [0, 1])
def test_a_class_that_is_high_in_one_column_is_found(row: int, width: int) -> None:
    for column in COLUMNS:
        logits = torch.zeros(3, 2, 700)
        logits[0] = 9
        logits[1, row, column] = 20
        found = cpu_segment.segment(logits, 3, width)
        assert np.array_equal(found[0], by_the_book(logits, 3, width)[0].numpy())
        if width >= 700:
            assert found[1][1] > 0


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("column", COLUMNS)
def test_nobody_is_ruled_out_by_what_is_higher_elsewhere(row: int, column: int) -> None:
    values = torch.full((12, 2, 700), 0.1 / 11)
    values[0] = 0.9
    values[:, row, column] = 0.8 / 11
    values[1, row, column] = 0.2
    logits = values.log()
    assert cpu_segment.segment(logits, 2, 700)[0][row, column] == 1
    # a hundredth of the way from that row to the other, and a twentieth from that column
    labels = cpu_segment.segment(logits, 100, 7000)[0][(25, 74)[row]]
    beside = [10 * column + 4, 10 * column + 5]
    assert labels[beside].tolist() == [1, 1]


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("column", COLUMNS)
def test_what_is_no_number_spoils_those_that_it_is_a_part_of(column: int) -> None:
    logits = noise(3, 2, 700)
    logits[1, 1, column] = torch.nan
    labels, _, confidence = cpu_segment.segment(logits, 4, 1400)
    assert (labels[1:, 2 * column] == 2).all()
    expected, _, sums = by_the_book(logits, 4, 1400)
    assert np.count_nonzero(labels != expected.numpy()) <= 2
    assert np.isnan(confidence).tolist() == sums.isnan().tolist() == [False, False, True]


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_nothing_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no logits: {} x {} x {}".format(*shape)):
        cpu_segment.segment(torch.zeros(shape), 4, 4)


@pytest.mark.usefixtures("instructions")
def test_more_classes_than_it_has_memory_for_are_refused() -> None:
    assert cpu_segment.segment(noise(256, 2, 3), 4, 5)[1].sum() == 20
    with pytest.raises(ValueError, match="257 classes; at most 256"):
        cpu_segment.segment(noise(257, 2, 3), 4, 5)


def test_where_there_is_no_memory_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Mock()
    library.segment.return_value = 0
    monkeypatch.setattr(compiled, "library", lambda: library)
    with pytest.raises(MemoryError, match="rows of an image"):
        cpu_segment.segment(noise(3, 4, 5), 6, 7)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_answers_where_there_is_no_library(
    monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    monkeypatch.setattr(compiled, "library", lambda: None)
    logits = LAYOUTS[layout](noise(5, 20, 30)).requires_grad_()
    found = cpu_segment.segment(logits, 44, 55)
    assert_as_the_book_has_it(found, logits.detach().float(), 44, 55)
