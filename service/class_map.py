"""One image's answer before it is written down."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models import cpu_segment
from models.upsample import Segmentation, segment_logits


@dataclass(frozen=True)
class ClassMap:
    """`labels` uint8 (H, W); `pixels` int64 (K,), how often each class was chosen; `confidence`
    float64 (K,), the sum of its probability over those pixels.

    NumPy's arrays: to make or to free one of PyTorch's tensors gives Python's lock away, and to
    have it back takes longer than all that is done with them.
    """

    labels: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @classmethod
    def of(cls, segmentation: Segmentation) -> "ClassMap":
        on_cpu = segmentation.cpu()
        return cls(on_cpu.labels.numpy(), on_cpu.pixels.numpy(), on_cpu.confidence.numpy())

    @classmethod
    def chosen(cls, logits: Tensor, height: int, width: int) -> "ClassMap":
        """`segment_logits` of (K, h, w)."""
        if logits.device.type == "cpu":
            return cls(*cpu_segment.segment(logits, height, width))
        return cls.of(segment_logits(logits, height, width))
