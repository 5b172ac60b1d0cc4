"""The threads that decode and encode, and the pixels they may hold: a process's, not a model's."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from typing import TypeVar

import torch

from service.budget import PixelBudget

T = TypeVar("T")
F = TypeVar("F")


class Codec:
    """Shared by every loaded model: they run on the same cores and in the same memory.

    Decoding and encoding have threads of their own, so that what was computed never waits behind
    what is new. Work runs in the context of its request, to which its log lines belong.
    """

    def __init__(self, *, threads: int, max_pixels: int) -> None:
        self.threads = threads
        self.max_pixels = max_pixels
        self.budget = PixelBudget(max_pixels)
        self._decoders = _threads(threads, "decode")
        self._encoders = _threads(threads, "encode")
        self._began: dict[int, float] = {}  # of what a thread is at

    async def decoding(self, work: Callable[[], T]) -> T:
        return await result_of(self._decoders.submit(copy_context().run, self._noted, work))

    async def encoding(self, work: Callable[[], T]) -> T:
        return await result_of(self._encoders.submit(copy_context().run, self._noted, work))

    async def encoding_result(self, found: Future[F], work: Callable[[F], T]) -> T:
        """`work` on what will be found, from the thread that finds it to one that encodes: the
        event loop has enough to do."""
        encoded: Future[T] = Future()
        found.add_done_callback(partial(self._begin, encoded, copy_context(), work))
        try:
            del found  # its result is freed by who encoded it
            return await result_of(encoded)
        finally:
            del encoded, work  # in an error's frames they would keep the image from being freed

    def _begin(
        self, encoded: Future[T], context: Context, work: Callable[[F], T], done: Future[F]
    ) -> None:
        """In the thread that found it."""
        if done.cancelled():
            encoded.cancel()
        elif (error := done.exception()) is not None:
            _fail(encoded, error)
        else:
            once = [(encoded, done, work)]
            try:
                self._encoders.submit(context.run, self._noted, partial(_finish, once))
            except RuntimeError as refusal:  # closed, or no thread for it: nobody waits for ever
                once.clear()
                _fail(encoded, refusal)

    def trouble(self, *, patience_s: float) -> str | None:
        """Why nothing may be expected of it any more, None while it works."""
        began = list(self._began.values())
        longest_s = max((time.perf_counter() - begin for begin in began), default=0.0)
        if longest_s > patience_s:
            return f"an image has been decoded or encoded for {longest_s:.0f} s"
        return None

    def _noted(self, work: Callable[[], T]) -> T:
        thread = threading.get_ident()
        self._began[thread] = time.perf_counter()
        try:
            return work()
        finally:
            del self._began[thread]

    def close(self) -> None:
        self._decoders.shutdown()
        self._encoders.shutdown()


def _fail(future: Future[T], error: BaseException) -> None:
    """Where anybody still waits for it."""
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


def _finish(once: list[tuple[Future[T], Future[F], Callable[[F], T]]]) -> None:
    """Takes what is to be done out of the list: an error's frames lead to whoever called this, and
    would keep the image from being freed."""
    if not once:
        return
    encoded, done, work = once.pop()
    if not encoded.set_running_or_notify_cancel():
        return
    try:
        encoded.set_result(work(done.result()))
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        encoded.set_exception(error)
    finally:
        del encoded, done, work


async def result_of(future: Future[T]) -> T:
    """What a thread of the codec answers. A request that is cancelled meanwhile ends only when no
    thread works for it any more, so that nothing still in use is counted as free."""
    waiting = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if not future.cancel():
            await asyncio.wait([waiting])
        raise
    finally:
        del future, waiting  # in an error's frames they would keep the image from being freed


def _threads(count: int, name: str) -> ThreadPoolExecutor:
    """Each computes on one core: there are as many as cores, and images to keep them busy."""
    return ThreadPoolExecutor(
        count, thread_name_prefix=name, initializer=torch.set_num_threads, initargs=(1,)
    )
