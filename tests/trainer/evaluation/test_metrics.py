"""The confusion matrix and what is read off it."""

import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from trainer.evaluation.metrics import ConfusionMatrix

IGNORE = 255
K = 4
Pairs = list[tuple[int, int]]  # (label, prediction) of each pixel

pixel_pairs = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3, IGNORE]), st.integers(0, K - 1)), max_size=40
)


UNHURRIED: dict[str, Any] = {  # the machine may be busy
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}


def matrix_of(pairs: Pairs) -> ConfusionMatrix:
    matrix = ConfusionMatrix(K, ignore_index=IGNORE)
    matrix.update(*tensors(pairs))
    return matrix


def tensors(pairs: Pairs) -> tuple[Tensor, Tensor]:
    pixels = torch.tensor(pairs, dtype=torch.uint8).reshape(-1, 2)
    return pixels[:, 0], pixels[:, 1]


def counted_iou(pairs: Pairs) -> list[float]:
    """IoU by its definition, pixel by pixel."""
    result = []
    for k in range(K):
        counted = [(label, guess) for label, guess in pairs if label != IGNORE]
        both = sum(label == k == guess for label, guess in counted)
        either = sum(k in (label, guess) for label, guess in counted)
        result.append(both / either if either else math.nan)
    return result


@settings(max_examples=200, **UNHURRIED)
@given(pixel_pairs)
def test_iou_and_accuracy_are_what_counting_pixels_gives(pairs: Pairs) -> None:
    matrix = matrix_of(pairs)
    expected = counted_iou(pairs)
    assert matrix.per_class_iou().tolist() == pytest.approx(expected, nan_ok=True)
    present = [value for value in expected if not math.isnan(value)]
    mean = sum(present) / len(present) if present else math.nan
    assert matrix.mean_iou() == pytest.approx(mean, nan_ok=True)
    right = [label == guess for label, guess in pairs if label != IGNORE]
    accuracy = sum(right) / len(right) if right else math.nan
    assert matrix.pixel_accuracy() == pytest.approx(accuracy, nan_ok=True)


@settings(max_examples=50, **UNHURRIED)
@given(st.lists(pixel_pairs, max_size=5))
def test_parts_add_up_to_the_whole(parts: list[Pairs]) -> None:
    summed = ConfusionMatrix(K, ignore_index=IGNORE)
    for part in parts:
        summed.update(*tensors(part))
    whole = matrix_of([pair for part in parts for pair in part])
    assert torch.equal(summed.counts, whole.counts)
    merged = ConfusionMatrix(K, ignore_index=IGNORE)
    for part in parts:
        merged = merged + matrix_of(part)
    assert torch.equal(merged.counts, whole.counts)


def test_adding_changes_neither_part() -> None:
    first, second = matrix_of([(0, 0)]), matrix_of([(1, 2)])
    total = first + second
    total.update(*tensors([(3, 3)]))
    assert int(first.counts.sum()) == int(second.counts.sum()) == 1
    assert int(total.counts.sum()) == 3


@pytest.mark.parametrize(("classes", "ignored"), [(1, IGNORE), (K, 254)])
def test_matrices_of_other_classes_do_not_add_up(classes: int, ignored: int) -> None:
    """Of one class torch would add its count to every cell."""
    with pytest.raises(ValueError, match="matrices of"):
        matrix_of([]).merge(ConfusionMatrix(classes, ignore_index=ignored))


def test_rows_are_labels_and_columns_predictions() -> None:
    matrix = matrix_of([(0, 1), (0, 1), (2, 3), (IGNORE, 3)])
    expected = torch.zeros(K, K, dtype=torch.int64)
    expected[0, 1], expected[2, 3] = 2, 1
    assert torch.equal(matrix.counts, expected)


def test_a_class_neither_labelled_nor_predicted_is_left_out() -> None:
    matrix = matrix_of([(0, 0), (1, 1), (1, 0)])
    iou = matrix.per_class_iou()
    assert iou[:2].tolist() == [1 / 2, 1 / 2]
    assert iou[2:].isnan().all()
    assert matrix.mean_iou() == 0.5
    assert matrix.mean_iou([0, 2]) == 0.5
    assert math.isnan(matrix.mean_iou([2, 3]))


def test_a_class_predicted_but_never_labelled_counts_as_zero() -> None:
    matrix = matrix_of([(0, 0), (0, 0), (0, 3)])
    assert matrix.per_class_iou()[3] == 0
    assert matrix.mean_iou() == pytest.approx((2 / 3 + 0) / 2)


def test_precision_and_recall_divide_by_what_was_predicted_and_what_was_labelled() -> None:
    matrix = matrix_of([(0, 0), (0, 0), (0, 1), (1, 1), (2, 1)])
    assert matrix.per_class_precision()[:3].tolist() == pytest.approx([1, 1 / 3, 0])
    assert matrix.per_class_recall()[:3].tolist() == pytest.approx([2 / 3, 1, 0])
    assert matrix.per_class_dice()[:3].tolist() == pytest.approx([4 / 5, 2 / 4, 0])
    assert matrix.per_class_precision()[3].isnan()
    assert matrix.per_class_recall()[3].isnan()


def test_a_class_predicted_on_ignored_pixels_only_is_absent() -> None:
    assert matrix_of([(0, 0), (IGNORE, 3)]).per_class_iou()[3].isnan()


def test_the_mean_over_named_classes_is_over_those() -> None:
    matrix = matrix_of([(0, 0), (1, 1), (1, 0), (2, 2), (3, 2)])
    iou = matrix.per_class_iou()
    assert matrix.mean_iou([1, 2]) == pytest.approx(float(iou[[1, 2]].mean()))


def test_the_splits_iou_is_not_the_mean_of_the_images_ious() -> None:
    small, large = [(1, 1)] * 2 + [(0, 0)] * 2, [(1, 0)] * 90 + [(1, 1)] * 10
    total = matrix_of(small + large).per_class_iou()[1]
    of_images = (matrix_of(small).per_class_iou()[1] + matrix_of(large).per_class_iou()[1]) / 2
    assert total == pytest.approx(12 / 102)
    assert of_images == pytest.approx((1 + 0.1) / 2)


def test_nothing_labelled_is_nan_not_zero() -> None:
    matrix = matrix_of([(IGNORE, 1)] * 3)
    assert math.isnan(matrix.pixel_accuracy())
    assert math.isnan(matrix.mean_iou())


def test_counts_stay_exact_beyond_what_float32_can_hold() -> None:
    matrix = ConfusionMatrix(2, ignore_index=IGNORE)
    assert matrix.counts.dtype == torch.int64
    matrix.counts[0, 0] = 2**24
    matrix.counts[1, 1] = 2**53
    matrix.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert matrix.counts.diagonal().tolist() == [2**24 + 1, 2**53 + 1]


def test_label_maps_of_two_dimensions_are_counted() -> None:
    matrix = ConfusionMatrix(K, ignore_index=IGNORE)
    labels = torch.tensor([[0, 1], [2, IGNORE]], dtype=torch.uint8)
    matrix.update(labels, torch.zeros(2, 2, dtype=torch.uint8))
    assert int(matrix.counts.sum()) == 3


def test_many_classes_do_not_overflow_eight_bits() -> None:
    matrix = ConfusionMatrix(200, ignore_index=IGNORE)
    pixels = torch.tensor([199, 150], dtype=torch.uint8)
    matrix.update(pixels, pixels)
    assert matrix.counts[199, 199] == matrix.counts[150, 150] == 1
    assert int(matrix.counts.sum()) == 2


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_of_torchmetrics(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    count = 22
    labels = torch.randint(0, count - 5, (3, 40, 50), generator=random)  # the last 5 are absent
    guesses = torch.where(
        torch.rand(labels.shape, generator=random) < 0.6,
        labels,
        torch.randint(0, count - 3, labels.shape, generator=random),
    )
    labels[torch.rand(labels.shape, generator=random) < 0.1] = IGNORE
    matrix = ConfusionMatrix(count, ignore_index=IGNORE)
    for label, guess in zip(labels, guesses, strict=True):
        matrix.update(label.to(torch.uint8), guess.to(torch.uint8))
    each = MulticlassJaccardIndex(num_classes=count, average="none", ignore_index=IGNORE)
    macro = MulticlassJaccardIndex(num_classes=count, average="macro", ignore_index=IGNORE)
    micro = MulticlassAccuracy(num_classes=count, average="micro", ignore_index=IGNORE)
    iou = matrix.per_class_iou()
    present = ~iou.isnan()
    assert present.sum() == count - 3
    torch.testing.assert_close(
        iou[present], each(guesses, labels)[present].double(), atol=1e-6, rtol=0
    )
    assert matrix.mean_iou() == pytest.approx(float(macro(guesses, labels)), abs=1e-6)
    f1 = MulticlassF1Score(num_classes=count, average="macro", ignore_index=IGNORE)
    assert matrix.mean_dice() == pytest.approx(float(f1(guesses, labels)), abs=1e-6)
    for values, metric in (
        (matrix.per_class_dice(), MulticlassF1Score),
        (matrix.per_class_precision(), MulticlassPrecision),
        (matrix.per_class_recall(), MulticlassRecall),
    ):
        theirs = metric(num_classes=count, average="none", ignore_index=IGNORE)(guesses, labels)
        assert torch.equal(values.isnan(), iou.isnan())
        torch.testing.assert_close(values[present], theirs[present].double(), atol=1e-6, rtol=0)
    assert matrix.pixel_accuracy() == pytest.approx(float(micro(guesses, labels)), abs=1e-6)
