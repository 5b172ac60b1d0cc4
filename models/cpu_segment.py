"""`segment_logits` on the CPU: by segment.c, or by PyTorch and NumPy in four times the time."""

from ctypes import byref

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models import compiled, numpy_segment
from models.cpu_logits import LogitsInMemory
from models.winners import Labels, Numbers


def segment(logits: Tensor, height: int, width: int) -> tuple[Labels, Numbers, NDArray[np.float64]]:
    """Logits (K, h, w) -> labels, pixels, confidence: see `Segmentation`.

    ValueError as `LogitsInMemory`; MemoryError.
    """
    source, library = LogitsInMemory(logits), compiled.library()
    if library is None:
        # whose softmax takes twice as long channels last
        probabilities = logits.detach().float().contiguous().softmax(0)
        return numpy_segment.segment(probabilities.numpy(), height, width)
    num_classes = len(logits)
    labels = np.empty((height, width), np.uint8)
    pixels, confidence = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.float64)
    if not library.segment(
        *(library.instructions(), byref(source), height, width),
        *(labels.ctypes.data, pixels.ctypes.data, confidence.ctypes.data),
    ):
        raise MemoryError("no memory for a few rows of an image")
    return labels, pixels, confidence
