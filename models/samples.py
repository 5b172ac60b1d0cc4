"""Where an image's pixels lie between those of a source of another size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Samples:
    """Along one side: after pixel `low` int64 (n,) of `source` pixels, a share `weight` float32
    (n,) of the way to `next` int64 (n,); the last pixel is its own next. Pixel centres are aligned,
    as in `F.interpolate(align_corners=False)`; beyond the outermost centres nothing changes."""

    source: int
    low: NDArray[np.int64]
    next: NDArray[np.int64]
    weight: NDArray[np.float32]

    @classmethod
    def between(cls, source: int, length: int) -> "Samples":
        """For `length` pixels of the image."""
        place = (np.arange(length) + 0.5) * source / length - 0.5
        np.clip(place, 0, source - 1, out=place)
        low = place.astype(np.int64)
        following = np.minimum(low + 1, source - 1)
        return cls(source, low, following, (place - low).astype(np.float32))

    def shares(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(source,) each: how many pixels lie after every source pixel, and what they take, summed,
        of the next one."""
        count = np.bincount(self.low, minlength=self.source)
        following = np.bincount(self.low, self.weight, minlength=self.source)
        return count.astype(np.int64), following.astype(np.float64)
