"""Boundary IoU, against the paper's definition worked out class by class."""

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.evaluation.boundary import BoundaryCounts, band_width, boundary_band

IGNORE = 255
K = 4


def class_by_class(labels: Tensor, predictions: Tensor) -> tuple[list[int], list[int]]:
    """Intersection and union of the bands of each class's mask: the mask less its erosion, which
    is pixel by pixel, `d` times over, in a frame of zeros."""
    target = labels.numpy()
    guess = np.where(target == IGNORE, IGNORE, predictions.numpy())
    both, either = [], []
    for k in range(K):
        ours, theirs = band_of(target == k), band_of(guess == k)
        both.append(int((ours & theirs).sum()))
        either.append(int((ours | theirs).sum()))
    return both, either


def band_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    distance = max(1, round(0.02 * math.hypot(*mask.shape)))
    framed = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(framed, np.ones((3, 3), dtype=np.uint8), iterations=distance)
    band: NDArray[np.bool_] = mask & (eroded[1:-1, 1:-1] == 0)
    return band


def blobs(height: int, width: int, *, seed: int) -> Tensor:
    """uint8 (height, width): patches of every class, and of pixels to ignore."""
    random = np.random.default_rng(seed)
    coarse = random.choice([0, 1, 2, 3, IGNORE], (5, 6)).astype(np.uint8)
    ids = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return torch.from_numpy(ids.astype(np.uint8))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(60, 80), (200, 90), (9, 7)])
def test_all_bands_at_once_are_those_of_each_class_alone(seed: int, size: tuple[int, int]) -> None:
    labels, predictions = blobs(*size, seed=seed), blobs(*size, seed=seed + 100) % K
    counts = BoundaryCounts(K, ignore_index=IGNORE)
    counts.update(labels, predictions)
    both, either = class_by_class(labels, predictions)
    assert counts.intersection.tolist() == both
    assert counts.union.tolist() == either


def test_the_width_is_two_percent_of_the_diagonal_and_at_least_a_pixel() -> None:
    assert band_width(300, 400) == 10
    assert band_width(3, 4) == 1


def test_the_images_border_is_a_boundary() -> None:
    band = boundary_band(np.zeros((5, 6), dtype=np.uint8), 1)
    inside = np.zeros((5, 6), dtype=bool)
    inside[1:-1, 1:-1] = True
    assert (band == ~inside).all()


def test_an_outline_missed_by_a_little_costs_more_than_the_area_does() -> None:
    labels, predictions = (torch.zeros(100, 100, dtype=torch.uint8) for _ in range(2))
    labels[20:80, 20:80] = 1
    predictions[22:82, 20:80] = 1
    counts = BoundaryCounts(K, ignore_index=IGNORE)
    counts.update(labels, predictions)
    assert float(counts.per_class_iou()[1]) < 0.6 < 58 / 62  # which is the plain IoU


def test_what_is_predicted_on_ignored_pixels_is_left_out() -> None:
    labels = torch.zeros(40, 40, dtype=torch.uint8)
    labels[10:30, 10:30] = IGNORE
    counts = BoundaryCounts(K, ignore_index=IGNORE)
    counts.update(labels, torch.where(labels == IGNORE, 2, labels))
    assert counts.per_class_iou()[0] == 1
    assert counts.per_class_iou()[1:].isnan().all()
    assert counts.mean_iou() == 1


def test_a_split_is_summed_before_it_is_divided() -> None:
    first, second = (BoundaryCounts(K, ignore_index=IGNORE) for _ in range(2))
    labels, predictions = blobs(50, 60, seed=1), blobs(50, 60, seed=2) % K
    first.update(labels, predictions)
    second.update(labels % K, labels % K)
    total = first + second
    assert torch.equal(total.intersection, first.intersection + second.intersection)
    assert torch.equal(total.union, first.union + second.union)
    with pytest.raises(ValueError, match="4 and 1 classes"):
        first.merge(BoundaryCounts(1, ignore_index=IGNORE))
