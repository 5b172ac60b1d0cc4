"""Where an image's pixels lie between those of a source of another size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Samples:
    """Along one side: after pixel `low` int64 (n,) of `source` pixels, a share `weight` float32
    (n,) of the way to the next. Pixel centres are aligned, as in
    `F.interpolate(align_corners=False)`; beyond the outermost centres nothing changes."""

    source: int
    low: NDArray[np.int64]
    weight: NDArray[np.float32]

    @classmethod
    def between(cls, source: int, length: int) -> "Samples":
        """For `length` pixels of the image."""
        place = (np.arange(length) + 0.5) * source / length - 0.5
        np.clip(place, 0, source - 1, out=place)
        low = place.astype(np.int64)
        return cls(source, low, (place - low).astype(np.float32))

    @property
    def next(self) -> NDArray[np.int64]:
        """What lies after; the last pixel's is its own."""
        return np.minimum(self.low + 1, self.source - 1)

    def shares(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(source,) each: how many pixels lie after every source pixel, and what they take, summed,
        of the next one."""
        count = np.bincount(self.low, minlength=self.source)
        following = np.bincount(self.low, self.weight, minlength=self.source)
        return count.astype(np.int64), following.astype(np.float64)
