"""Per-class figures out of the device's sums."""

import numpy as np
import pytest
import torch

from models.upsample import segment_logits
from service.class_map import ClassMap
from service.statistics import class_statistics
from tests.service.colours import CLASSES


def class_map(pixels: list[int], confidence: list[float]) -> ClassMap:
    labels = np.zeros((1, sum(pixels)), dtype=np.uint8)
    return ClassMap(labels, np.array(pixels), np.array(confidence))


def test_classes_come_largest_first_and_absent_ones_not_at_all() -> None:
    found = class_statistics(class_map([10, 0, 50, 40], [5.0, 0.0, 45.0, 30.0]), CLASSES)
    assert [(entry.id, entry.name, entry.pixels) for entry in found] == [
        (2, "green", 50),
        (3, "blue", 40),
        (0, "dark", 10),
    ]
    assert [entry.color for entry in found] == [(40, 220, 90), (70, 80, 240), (10, 20, 30)]
    assert [entry.fraction for entry in found] == [0.5, 0.4, 0.1]
    assert [entry.mean_confidence for entry in found] == [0.9, 0.75, 0.5]


def test_equal_classes_come_in_the_order_of_their_ids() -> None:
    found = class_statistics(class_map([5, 5, 5, 5], [1.0, 1.0, 1.0, 1.0]), CLASSES)
    assert [entry.id for entry in found] == [0, 1, 2, 3]


def test_rounding_never_lifts_a_confidence_above_one() -> None:
    found = class_statistics(class_map([3, 0, 0, 0], [3.0000001, 0, 0, 0]), CLASSES)
    assert found[0].mean_confidence == 1.0


def test_figures_match_a_brute_force_softmax() -> None:
    logits = torch.randn(4, 19, 23, generator=torch.Generator().manual_seed(1)) * 3
    found = class_statistics(ClassMap.of(segment_logits(logits, 19, 23)), CLASSES)
    best, labels = logits.softmax(0).max(0)
    assert sum(entry.pixels for entry in found) == 19 * 23
    assert sum(entry.fraction for entry in found) == pytest.approx(1.0)
    assert len(found) == 4
    for entry in found:
        chosen = labels == entry.id
        assert entry.pixels == int(chosen.sum())
        assert entry.mean_confidence == pytest.approx(float(best[chosen].mean()), abs=1e-5)
