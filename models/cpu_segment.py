"""`segment_probabilities` on the CPU: by segment.c, or by NumPy in more than twice the time."""

import numpy as np
from numpy.typing import NDArray

from models import compiled, numpy_segment
from models.winners import Labels, Numbers, Values


def segment(values: Values, height: int, width: int) -> tuple[Labels, Numbers, NDArray[np.float64]]:
    """float32 probabilities (K, h, w) -> labels, pixels, confidence: see `Segmentation`.

    ValueError for nothing at all, or more classes than a label has values; MemoryError.
    """
    library = compiled.library()
    if library is None:
        return numpy_segment.segment(values, height, width)
    num_classes, source_height, source_width = values.shape
    if not values.size:
        raise ValueError(f"no probabilities: {num_classes} x {source_height} x {source_width}")
    if num_classes > compiled.MAX_CLASSES:
        raise ValueError(f"{num_classes} classes; at most {compiled.MAX_CLASSES}")
    if values.strides[2] != values.itemsize:
        values = np.ascontiguousarray(values)
    plane, line = (stride // values.itemsize for stride in values.strides[:2])
    labels = np.empty((height, width), np.uint8)
    pixels, confidence = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.float64)
    if not library.segment(
        library.instructions(),
        *(values.ctypes.data, plane, line, num_classes, source_height, source_width),
        *(height, width, labels.ctypes.data, pixels.ctypes.data, confidence.ctypes.data),
    ):
        raise MemoryError("no memory for a few rows of an image")
    return labels, pixels, confidence
