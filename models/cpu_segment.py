"""`segment_probabilities` on the CPU: by segment.c, which is compiled where the package is
installed and there is a C compiler, elsewhere by NumPy in several times as long."""

import ctypes
import logging
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import numpy_segment
from models.winners import Labels, Numbers, Values

logger = logging.getLogger(__name__)

LIBRARY = "models._segment"  # as pyproject.toml has it
MAX_CLASSES = 256  # the source's own


def segment(values: Values, height: int, width: int) -> tuple[Labels, Numbers, NDArray[np.float64]]:
    """float32 probabilities (K, h, w) -> labels, pixels, confidence: see `Segmentation`."""
    library = _compiled()
    if library is None:
        return numpy_segment.segment(values, height, width)
    num_classes, source_height, source_width = values.shape
    if num_classes > MAX_CLASSES:
        raise ValueError(f"{num_classes} classes; at most {MAX_CLASSES}")
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


@cache
def _compiled() -> Any | None:
    """What segment.c was compiled to, whose functions run without Python's lock; None where it
    cannot be had, for a reason that is logged once."""
    found = find_spec(LIBRARY)
    if found is None or found.origin is None:
        logger.info("masks are made the slower way: segment.c was not compiled at installation")
        return None
    try:
        library = ctypes.CDLL(found.origin)
    except OSError as error:
        logger.warning("masks are made the slower way: %s", error)
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.segment.argtypes = [ctypes.c_int, pointer, *[number] * 7, *[pointer] * 3]
    return library
