"""How much decoded image there may be at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SMALL = 16  # an image of a sixteenth of the limit waits for small ones alone
SMALL_SHARE = 4  # what they share: a quarter of the limit, beside it


class PixelBudget:
    """Pixels that may be in memory at a time, so that memory follows it and not the uploads: the
    largest image alone, or several smaller, and a quarter more for small ones, which would
    otherwise wait for minutes while a large image is cut into tiles. Belongs to one event loop.
    """

    def __init__(self, largest: int) -> None:
        self._small_up_to = largest // SMALL
        self._shares = _Share(largest), _Share(largest // SMALL_SHARE)

    @property
    def limit(self) -> int:
        return sum(share.limit for share in self._shares)

    @property
    def held(self) -> int:
        """Pixels in memory now."""
        return sum(share.limit - share.free for share in self._shares)

    @property
    def waiting(self) -> int:
        """Images for which there is no room yet."""
        return sum(share.waiting for share in self._shares)

    @asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        """Waits until `count` pixels are free and holds them. More than the largest would wait for
        ever."""
        share = self._shares[count <= self._small_up_to]
        await share.take(count)
        try:
            yield
        finally:
            share.give_back(count)


class _Share:
    """First come, first served: no image is overtaken for ever. Whoever waits blocks no thread, so
    what was computed is always encoded."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.free = limit
        self.waiting = 0
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()

    async def take(self, count: int) -> None:
        self.waiting += 1
        try:
            async with self._turn:
                while self.free < count:
                    self._returned.clear()
                    await self._returned.wait()
                self.free -= count
        finally:
            self.waiting -= 1

    def give_back(self, count: int) -> None:
        self.free += count
        self._returned.set()
