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
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        timer = loop.call_at(self._at, self._expire, answer)
        # tells us itself: the loop would go round once more for asyncio.wait
        task = asyncio.create_task(_settle(answer, work))
        try:
            return await answer
        finally:
            timer.cancel()
            if not task.done():
                _given_up.add(task)
                task.add_done_callback(_given_up.discard)
                task.cancel()
                await asyncio.wait([task], timeout=GIVING_UP_S)
            # in an error's frames they would keep the image from being freed
            del answer, task, timer, work

    def _expire(self, answer: asyncio.Future[T]) -> None:
        if not answer.done():
            answer.set_exception(DeadlineError(f"there is no answer after {self.seconds:g} s"))


async def _settle(answer: asyncio.Future[T], work: Coroutine[Any, Any, T]) -> None:
    """Whatever `work` ends with, unless nobody waits for it any more."""
    try:
        result = await work
    except asyncio.CancelledError:
        answer.cancel()
        raise
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        if not answer.done():
            answer.set_exception(error)
    else:
        if not answer.done():
            answer.set_result(result)
    finally:
        del answer, work  # as above


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
