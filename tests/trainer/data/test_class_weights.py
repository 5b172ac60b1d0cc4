"""Weights for rare classes."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from trainer.data.audit import TrainingAudit
from trainer.data.class_weights import median_frequency_weights
from trainer.data.split_audit import SplitAudit


def audit_of(pixels: Sequence[int], around: Sequence[int]) -> TrainingAudit:
    zeros = np.zeros(len(pixels), dtype=np.int64)
    train = SplitAudit("train", 3, np.array(pixels), zeros, np.array(around))
    return TrainingAudit(train, SplitAudit("val", 1, zeros, zeros, zeros))


def test_weights_are_the_median_frequency_over_each() -> None:
    """Frequencies 0.8, 0.4 and 0.1: the median is 0.4."""
    weights = median_frequency_weights(audit_of([800, 200, 50], [1000, 500, 500]))
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([0.5, 1, 4])


def test_an_absent_class_weighs_one_and_does_not_move_the_median() -> None:
    weights = median_frequency_weights(audit_of([800, 0, 200, 50], [1000, 0, 500, 500]))
    assert weights.tolist() == pytest.approx([0.5, 1, 1, 4])
