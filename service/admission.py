"""How many requests may be in the service: as many as keep it busy.

More of them would be answered later and no more of them a second. Who comes when all places are
taken is told so at once, and his upload is not read. A burst may take more places than that, for
it passes; while requests are being refused it is no burst, and everyone would only wait longer.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.batcher import Batcher
from service.errors import OverloadedError

BURST = 16  # a page or a script sends so many at a time, however slow the machine is
CALM_S = 1.0  # without a refusal, before a burst is let in again: what Retry-After asks for


class Admission:
    """Counts requests; belongs to one event loop.

    `lasting` says how many places there are now, however long all are wanted; `burst` is how many
    there are at least where nobody was refused in the last CALM_S seconds by `clock`.
    """

    def __init__(
        self,
        lasting: Callable[[], int],
        *,
        burst: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lasting = lasting
        self._burst = burst
        self._clock = clock
        self._refused_at = -math.inf
        self.visitors = 0
        self.inside = 0
        self.waiting = 0

    @property
    def limit(self) -> int:
        calm = self._clock() - self._refused_at >= CALM_S
        return max(self._lasting(), self._burst if calm else 0)

    @contextmanager
    def visit(self) -> Iterator[None]:
        """From a request's beginning to its answer. An upload that is still on its way has no
        place: however slowly it comes, it takes nothing from others."""
        self._require_room()
        self.visitors += 1
        try:
            yield
        finally:
            self.visitors -= 1

    @contextmanager
    def place(self) -> Iterator[None]:
        """From the upload's last byte to the answer. OverloadedError where all places are taken."""
        self._require_room()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Out of its place for as long as a request waits for memory, behind large images: it
        keeps nothing busy. OverloadedError where as many as there are places wait already."""
        if self.waiting >= self.limit:
            raise OverloadedError(
                f"{self.waiting} images are waiting for memory already", reason="queue_full"
            )
        self.waiting += 1
        self.inside -= 1
        try:
            yield
        finally:
            self.inside += 1
            self.waiting -= 1

    def _require_room(self) -> None:
        if self.inside >= self.limit:
            self._refused_at = self._clock()
            raise OverloadedError(
                f"{self.inside} requests are being answered already", reason="queue_full"
            )


def busy_images(batcher: Batcher, threads: int) -> int:
    """As many as keep everything busy: an image in each thread that decodes or encodes, a pass in
    every lane of the device, and for each of them the next."""
    return 2 * threads + 2 * batcher.engine.lanes * batcher.capacity
