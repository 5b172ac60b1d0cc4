"""How much decoded image there may be at a time."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

# what images of up to a sixteenth, up to a quarter of the largest, and all others have for
# themselves, as parts of the largest
SHARES = ((16, 4), (4, 2), (1, 1))

Aside = Callable[[], AbstractContextManager[None]]  # entered for as long as an image waits


class PixelBudget:
    """Pixels that may be in memory at a time, so that memory follows it and not the uploads: the
    largest image alone, or several smaller, and beside it some for photographs and for small
    images, which would otherwise wait for minutes while a large image is cut into tiles. Belongs
    to one event loop, except for what threads may take and give back.
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

    def hold(self) -> "Hold":
        """For one image: a context, at whose end its pixels are given back."""
        return Hold(self)

    def share_for(self, count: int) -> "_Share":
        suits = (
            share for up_to, share in zip(self._up_to, self._shares, strict=True) if count <= up_to
        )
        return next(suits)


class Hold:
    """Holds no pixels at first, and at most the largest image's."""

    def __init__(self, budget: PixelBudget) -> None:
        self._budget = budget
        self._share: _Share | None = None
        self._count = 0

    def take_now(self, count: int) -> bool:
        """Whether `count` pixels were free, with nobody waiting for them. In any thread."""
        share = self._budget.share_for(count)
        if not share.take_now(count):
            return False
        self._share, self._count = share, count
        return True

    async def take(self, count: int, *, aside: Aside = nullcontext) -> None:
        """Where `count` pixels are not free it waits until they are, in the context `aside`."""
        if not self.take_now(count):
            share = self._budget.share_for(count)
            with aside():
                await share.take(count)
            self._share, self._count = share, count

    def give_back(self) -> None:
        """In any thread."""
        if self._share is not None:
            self._share.give_back(self._count)
            self._share = None

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *failure: object) -> None:
        self.give_back()


class _Share:
    """First come, first served: no image is overtaken for ever. Whoever waits blocks no thread, so
    what was computed is always encoded."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.free = limit
        self.waiting = 0
        self._changing = threading.Lock()
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()
        self._wake: Callable[[], object] = self._returned.set

    def take_now(self, count: int) -> bool:
        """Whether `count` were free, with nobody waiting for them."""
        return not self.waiting and self._take_free(count)

    async def take(self, count: int) -> None:
        wake = asyncio.get_running_loop().call_soon_threadsafe
        self._wake = partial(wake, self._returned.set)
        self.waiting += 1
        try:
            async with self._turn:
                while not self._take_free(count):
                    self._returned.clear()
                    await self._returned.wait()
        finally:
            self.waiting -= 1

    def give_back(self, count: int) -> None:
        with self._changing:
            self.free += count
        if self.waiting:  # who begins to wait after this finds them
            self._wake()

    def _take_free(self, count: int) -> bool:
        with self._changing:
            if self.free < count:
                return False
            self.free -= count
            return True
