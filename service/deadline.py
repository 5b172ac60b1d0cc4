"""Until when an answer is of use: a time after which nobody waits for it, or a client that left.

What was begun for it is cancelled then, so that units that wait for the device leave its queue.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.errors import DeadlineError

T = TypeVar("T")

GIVING_UP_S = 0.05  # what only waits has left its queue by then, before anyone is told

_given_up: set[asyncio.Task[Any]] = set()  # the event loop itself keeps no task alive


class Deadline:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = asyncio.get_running_loop().time() + seconds

    async def of(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` answers; DeadlineError where it does not in time.

        Nobody waits longer, though a thread that cannot be interrupted may go on with it: what
        `work` holds, it gives back when that has ended.
        """
        task = asyncio.create_task(work)
        try:
            left_s = self._at - asyncio.get_running_loop().time()
            await asyncio.wait([task], timeout=max(0.0, left_s))
            if not task.done():
                raise DeadlineError(f"there is no answer after {self.seconds:g} s")
            return task.result()
        finally:
            if not task.done():
                _given_up.add(task)
                task.add_done_callback(_end)
                task.cancel()
                await asyncio.wait([task], timeout=GIVING_UP_S)
            del task  # in an error's frames it would keep the image from being freed


def _end(task: asyncio.Task[Any]) -> None:
    _given_up.discard(task)
    if not task.cancelled():
        task.exception()  # which nobody waits for


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
