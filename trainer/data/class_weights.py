"""Weights for the loss that let rare classes count."""

import numpy as np
import torch
from torch import Tensor

from trainer.data.audit import TrainingAudit


def median_frequency_weights(audit: TrainingAudit) -> Tensor:
    """Median frequency balancing: float32 (K,), `median(freq) / freq[c]` for each class.

    `freq[c]` is the share of class c in the labelled pixels of the training images that hold it,
    and the median is over the classes that occur (Eigen and Fergus 2015, section 6.3.3). A class
    without a training pixel gets 1: it has no part in the training loss, and validation pixels of
    it keep theirs.
    """
    pixels, around = audit.train.pixels, audit.train.pixels_with_class
    occurs = pixels > 0
    frequency = pixels[occurs] / around[occurs]
    weights = np.ones(len(pixels))
    weights[occurs] = np.median(frequency) / frequency
    return torch.from_numpy(weights.astype(np.float32))
