"""Which class leads, and what adds up for it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.winners import TURNS, Bins, _sums_on_device, class_sums, named_winners, winners

LEVELS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few, so that many are equal
Values = np.ndarray[tuple[int, int, int], np.dtype[np.float32]]
Sums = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
DTYPES = [torch.float32, torch.float64]  # computed by NumPy and by PyTorch


@pytest.mark.parametrize("dtype", DTYPES)
@given(values=arrays.arrays(np.float32, (5, 3, 4), elements=LEVELS))
def test_winners_are_the_largest_and_the_lowest_of_equals(
    dtype: torch.dtype, values: Values
) -> None:
    best, labels = winners(torch.from_numpy(values).to(dtype))
    assert best.tolist() == values.max(0).tolist()
    assert labels.tolist() == values.argmax(0).tolist()
    assert labels.dtype == torch.uint8


@pytest.mark.parametrize("dtype", DTYPES)
@given(values=arrays.arrays(np.float32, (4, 3, 4), elements=LEVELS))
def test_winners_are_of_the_classes_that_were_named(dtype: torch.dtype, values: Values) -> None:
    classes = np.array([0, 7, 8, 254])
    named = named_winners(torch.from_numpy(values).to(dtype), torch.from_numpy(classes))[1]
    assert named.tolist() == classes[values.argmax(0)].tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_number_is_still_a_class(dtype: torch.dtype) -> None:
    best, labels = winners(torch.full((3, 2, 2), torch.nan, dtype=dtype))
    assert labels.max() < 3
    assert best.isnan().all()
    named = named_winners(torch.full((2, 2), torch.nan, dtype=dtype), torch.tensor([4, 6]))[1]
    assert set(named.tolist()) <= {4, 6}


@pytest.mark.parametrize("sums_of", [class_sums, _sums_on_device])
@pytest.mark.parametrize("shape", [(1,), (3,), (4 * TURNS + 1,), (7, 9), (0,), (2, 3, 5)])
def test_sums_are_of_the_class_s_own(sums_of: Sums, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(6, shape, generator=generator, dtype=torch.uint8)  # never the seventh
    probability = torch.rand(shape, generator=generator)
    pixels, confidence = sums_of(labels, probability, 7)
    assert (pixels.dtype, confidence.dtype) == (torch.int64, torch.float64)
    for index in range(7):
        where = labels == index
        assert pixels[index] == where.sum()
        assert confidence[index].item() == pytest.approx(probability[where].double().sum().item())


def test_labels_may_lie_in_memory_in_any_order() -> None:
    labels = np.array([[0, 1, 2], [2, 2, 0]], np.uint8).T
    values = np.arange(6.0).reshape(2, 3).T
    bins = Bins(labels, 3)
    assert bins.counts().tolist() == [2, 1, 3]
    assert bins.sums(values).tolist() == [5, 1, 9]
