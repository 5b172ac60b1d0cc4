"""Memory, files and threads of a process, over time."""

import time
from dataclasses import dataclass
from pathlib import Path

from numpy.polynomial import Polynomial

from benchmarks.serving.process import resident_mib


@dataclass(frozen=True)
class Vitals:
    """At `minutes` after the beginning."""

    minutes: float
    mib: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int, began: float) -> "Vitals":
        process = Path("/proc") / str(pid)
        return cls(
            minutes=(time.monotonic() - began) / 60,
            mib=resident_mib(pid),
            files=sum(1 for _ in (process / "fd").iterdir()),
            threads=sum(1 for _ in (process / "task").iterdir()),
        )


def settled_growth(seen: list[Vitals]) -> float:
    """How far a straight line through the memory rises after the first tenth of the time, which is
    warming up, as a share of where it begins. Every look counts alike: memory swings by a model
    that is loaded and by images that are there, and two looks would compare the swings."""
    settled = seen[len(seen) // 10 :]
    if len(settled) < 3:
        return 0.0
    minutes = [entry.minutes for entry in settled]
    line = Polynomial.fit(minutes, [entry.mib for entry in settled], deg=1)
    return float(line(minutes[-1]) / line(minutes[0]) - 1)
