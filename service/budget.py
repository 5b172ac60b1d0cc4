"""How much decoded image there may be at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import OverloadedError


class PixelBudget:
    """Pixels that may be in memory at a time, so that memory follows it and not the uploads.

    First come, first served: small images never keep a large one waiting for ever. Whoever waits
    blocks no thread, so what was computed is always encoded. Belongs to one event loop.
    """

    def __init__(self, limit: int, *, max_waiting: int) -> None:
        self.limit = limit
        self.waiting = 0
        self._free = limit
        self._max_waiting = max_waiting
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()

    @property
    def held(self) -> int:
        """Pixels in memory now."""
        return self.limit - self._free

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        """Waits until `count` pixels are free and holds them; OverloadedError when too many wait
        already. More than the limit would wait for ever."""
        await self._take(count)
        try:
            yield
        finally:
            self._free += count
            self._returned.set()

    async def _take(self, count: int) -> None:
        if self.waiting >= self._max_waiting:
            raise OverloadedError(f"{self.waiting} images are waiting already", reason="queue_full")
        self.waiting += 1
        try:
            async with self._turn:
                while self._free < count:
                    self._returned.clear()
                    await self._returned.wait()
                self._free -= count
        finally:
            self.waiting -= 1
