"""Until when an answer is of use: a time after which nobody waits for it, or a client that left.

What runs inside is cancelled then, so that units that wait for the device leave its queue.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.errors import DeadlineError


class Deadline:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = asyncio.get_running_loop().time() + seconds

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """DeadlineError where what is inside is not done in time."""
        try:
            async with asyncio.timeout_at(self._at) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineError(f"there is no answer after {self.seconds:g} s") from None


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """ClientDisconnect as soon as the client hangs up. The request's body was read before."""
    async with asyncio.timeout(None) as presence:
        watch = asyncio.create_task(_end_with_connection(request, presence))
        try:
            yield
        except asyncio.CancelledError:
            if watch.done():
                raise ClientDisconnect from None
            raise
        finally:
            watch.cancel()


async def _end_with_connection(request: Request, presence: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    presence.reschedule(asyncio.get_running_loop().time())
