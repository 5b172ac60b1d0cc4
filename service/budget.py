"""How much decoded image there may be at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

# what images of up to a sixteenth, up to a quarter of the largest, and all others have for
# themselves, as parts of the largest
SHARES = ((16, 4), (4, 2), (1, 1))

Aside = Callable[[], AbstractContextManager[None]]  # entered for as long as an image waits


class PixelBudget:
    """Pixels that may be in memory at a time, so that memory follows it and not the uploads: the
    largest image alone, or several smaller, and beside it some for photographs and for small
    images, which would otherwise wait for minutes while a large image is cut into tiles. Belongs
    to one event loop.
    """

    def __init__(self, largest: int) -> None:
        self._up_to = [largest // part for part, _ in SHARES]
        self._shares = [_Share(largest // part) for _, part in SHARES]

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
    async def hold(self, count: int, *, aside: Aside = nullcontext) -> AsyncIterator[None]:
        """Holds `count` pixels, no more than the largest image's. Where they are not free it waits
        until they are, in the context `aside`."""
        suits = (
            share for up_to, share in zip(self._up_to, self._shares, strict=True) if count <= up_to
        )
        share = next(suits)
        if not share.take_now(count):
            with aside():
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

    def take_now(self, count: int) -> bool:
        """Whether `count` were free, with nobody waiting for them."""
        if self.waiting or self.free < count:
            return False
        self.free -= count
        return True

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
