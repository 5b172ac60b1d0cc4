"""segment.c as compiled here, with each set of instructions that this processor has."""

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


def noise(num_classes: int, height: int, width: int) -> Values:
    probabilities: Values = (3 * random_images(num_classes, height, width)).softmax(0).numpy()
    return probabilities


def by_the_book(values: Values, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    classes = torch.arange(len(values))
    return every_pixel(torch.from_numpy(values), classes, height, width, len(values))


def assert_as_the_book_has_it(found: Found, values: Values, height: int, width: int) -> None:
    labels, pixels, confidence = by_the_book(values, height, width)
    same = found[0] == labels.numpy()
    assert same.mean() > 0.999  # rounding decides between as good as equals
    assert found[1].tolist() == np.bincount(found[0].ravel(), minlength=len(values)).tolist()
    assert np.abs(found[1] - pixels.numpy()).sum() <= 2 * np.count_nonzero(~same)
    assert np.allclose(found[2], confidence.numpy(), rtol=1e-4, atol=np.count_nonzero(~same) + 1e-3)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize(
    ("source", "image"),
    [
        pytest.param((20, 300), (31, 700), id="several parts of a row"),
        pytest.param((4, 700), (5, 9000), id="several stripes"),
        pytest.param((90, 1000), (7, 9), id="a part of many columns of the source"),
        pytest.param((9, 5), (30, 70), id="fewer columns than a vector has lanes"),
        pytest.param((17, 31), (17, 31), id="equal"),
    ],
)
@pytest.mark.parametrize("num_classes", [1, 3, 40])
def test_labels_counts_and_sums(
    source: tuple[int, int], image: tuple[int, int], num_classes: int
) -> None:
    values = noise(num_classes, *source)
    assert_as_the_book_has_it(cpu_segment.segment(values, *image), values, *image)


@pytest.mark.usefixtures("instructions")
@settings(deadline=None, max_examples=60)
@given(
    values=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12),
        elements=st.floats(-2, 2, width=32) | st.sampled_from([np.inf, -np.inf, np.nan, -0.0]),
    ),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_whatever_the_numbers_are(values: Values, height: int, width: int) -> None:
    """What is no probability rules no class out, and what is no number has the last class."""
    with np.errstate(invalid="ignore"):
        labels, pixels, confidence = cpu_segment.segment(values, height, width)
    expected = by_the_book(values, height, width)
    assert pixels.tolist() == np.bincount(labels.ravel(), minlength=len(values)).tolist()
    if not np.isinf(values).any():  # some ways multiply an infinity by 0, others do without it
        assert np.array_equal(np.isnan(confidence), np.isnan(expected[2].numpy()))
    if np.isfinite(values).all():
        total = expected[2].sum().item()
        assert confidence.sum() == pytest.approx(total, rel=1e-4, abs=1e-3)


@pytest.mark.usefixtures("instructions")
def test_values_are_read_where_they_lie() -> None:
    whole = noise(5, 40, 60)
    expected = cpu_segment.segment(whole[:, 3:33, 8:49].copy(), 50, 70)
    for values in (
        whole[:, 3:33, 8:49],
        np.asfortranarray(whole)[:, 3:33, 8:49],
        whole[::-1][::-1, 3:33, 8:49],
    ):
        found = cpu_segment.segment(values, 50, 70)
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])
        assert np.array_equal(found[2], expected[2])


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("level", [0.2, -0.2])
def test_the_lowest_of_equals_is_chosen(level: float) -> None:
    values = np.full((9, 6, 7), level - 0.1, np.float32)
    values[[2, 5, 8]] = level
    labels, pixels, _ = cpu_segment.segment(values, 20, 30)
    assert (labels == 2).all()
    assert pixels.tolist() == [0, 0, 600, 0, 0, 0, 0, 0, 0]


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("width", [700, 350, 10])
def test_a_class_that_is_high_in_one_column_is_found(width: int) -> None:
    for column in (0, 5, 8, 254, 255, 256, 257, 300, 511, 512, 691, 692, 699):
        values = np.full((3, 2, 700), 0.001, np.float32)
        values[0] = 0.1
        values[1, :, column] = 100.0
        assert_as_the_book_has_it(cpu_segment.segment(values, 3, width), values, 3, width)
        if width >= 350:
            assert cpu_segment.segment(values, 3, width)[1][1] > 0


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("column", [0, 3, 7, 8, 15, 20])
def test_nobody_is_ruled_out_by_what_is_higher_elsewhere(row: int, column: int) -> None:
    values = np.full((6, 2, 21), 0.02, np.float32)
    values[0] = 0.9
    values[:, row, column] = 0.16
    values[1, row, column] = 0.2
    assert cpu_segment.segment(values, 2, 21)[0][row, column] == 1
    # a hundredth of the way from that row to the other
    assert cpu_segment.segment(values, 100, 21)[0][(25, 74)[row], column] == 1


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_nothing_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no probabilities: {} x {} x {}".format(*shape)):
        cpu_segment.segment(np.zeros(shape, np.float32), 4, 4)


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


def test_numpy_answers_where_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "library", lambda: None)
    values = noise(5, 20, 30)
    assert_as_the_book_has_it(cpu_segment.segment(values, 44, 55), values, 44, 55)
