"""Where one image's time went: the stages of its way, and when each ran."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STAGES = ("decode", "queue", "device", "upsample", "encode")


@dataclass
class Part:
    """A stretch of a stage, in seconds of `time.perf_counter`. It was busy for `busy_s` of them:
    fewer where tiles were waited for, more where they shared the device."""

    stage: str
    began: float
    ended: float
    busy_s: float


class Stages:
    """The parts in the order in which they were noted; a stage may have several. `image` is the
    image's place among those of its request, from 0."""

    def __init__(self, image: int = 0) -> None:
        self.image = image
        self.began = time.perf_counter()
        self.parts: list[Part] = []

    def add(self, stage: str, began: float, ended: float) -> None:
        self.parts.append(Part(stage, began, ended, ended - began))

    def extend(self, stage: str, began: float, ended: float) -> None:
        """Goes on with the stage's last part: an image may have thousands of tiles."""
        for part in reversed(self.parts):
            if part.stage == stage:
                part.ended = max(part.ended, ended)
                part.busy_s += ended - began
                return
        self.add(stage, began, ended)

    @contextmanager
    def timed(self, stage: str, *, further: bool = False) -> Iterator[None]:
        """`further` goes on with the stage's last part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            note = self.extend if further else self.add
            note(stage, began, time.perf_counter())

    def seconds(self) -> dict[str, float]:
        """How long each stage that ran was busy, its parts together."""
        found: dict[str, float] = {}
        for part in self.parts:
            found[part.stage] = found.get(part.stage, 0.0) + part.busy_s
        return found

    def timing_ms(self) -> dict[str, float]:
        """Every stage, and the `total` until now."""
        found = self.seconds()
        timing = {stage: _ms(found.get(stage, 0.0)) for stage in STAGES}
        return {**timing, "total": _ms(time.perf_counter() - self.began)}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
