"""What is computed from what was measured; nothing here touches a clock."""

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0..1) of all values do not exceed; NaN for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """NaN for none."""
    return statistics.median(values) if values else math.nan


def throughput_limit(forward_ms: float, codec_ms: float, cores: int) -> float:
    """Requests a second that nothing on this machine can exceed: 1 / (forward + codec / cores).

    `forward_ms` is a network that has all cores to itself, `codec_ms` decoding and encoding on one
    of them; while those run on one core, others can do the same for other requests.
    """
    return 1000 / (forward_ms + codec_ms / cores)


def growth(series: Sequence[float]) -> float:
    """How much of its first value a series has gained at its highest later one; 0 if it fell."""
    if len(series) < 2:
        return math.nan
    return max(0.0, max(series[1:]) / series[0] - 1)


def spread(values: Sequence[float]) -> float:
    """How far the farthest value lies from the median, as a share of it."""
    if not values:
        return math.nan
    middle = median(values)
    return max(abs(value / middle - 1) for value in values)
