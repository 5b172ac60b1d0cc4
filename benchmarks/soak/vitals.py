"""Memory, files and threads of a process, over time."""

import time
from dataclasses import dataclass
from pathlib import Path

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
    """How much the highest memory of the last tenth is above the highest of the second tenth, as
    a share; the first tenth is warming up."""
    tenth = max(1, len(seen) // 10)
    early = max(entry.mib for entry in seen[tenth : 2 * tenth] or seen[:1])
    late = max(entry.mib for entry in seen[-tenth:])
    return late / early - 1
