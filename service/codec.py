"""The threads that decode and encode, and the pixels they may hold: a process's, not a model's."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

import torch

from service.budget import PixelBudget

D = TypeVar("D")
F = TypeVar("F")
T = TypeVar("T")


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
        return await result_of(self._submit(self._decoders, copy_context(), work))

    async def encoding(self, work: Callable[[], T]) -> T:
        return await result_of(self._submit(self._encoders, copy_context(), work))

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

    async def relay(
        self,
        decode: Callable[[], D],
        submit: Callable[[D], Future[F]],
        encode: Callable[[F], T],
    ) -> T:
        """Decodes, submits what that gave, and encodes what is found of it. The thread of each step
        begins the next: one that decodes (`_pass_on`), the device's (`_begin`), one that encodes
        (`_finish`). The event loop waits for the end alone."""
        encoded: Future[T] = Future()
        begin = partial(self._begin, encoded, copy_context(), encode)
        try:
            decoded = self._submit(
                self._decoders,
                copy_context(),
                partial(_pass_on, encoded, decode, submit, begin),
            )
            return await result_of(encoded, decoded)
        finally:
            del encoded, decode, submit, encode, begin  # as above

    def _begin(
        self, encoded: Future[T], context: Context, work: Callable[[F], T], done: Future[F]
    ) -> None:
        """In the thread that found it."""
        if done.cancelled():
            encoded.cancel()
        elif (error := done.exception()) is not None:
            _fail(encoded, error)
        else:
            try:
                self._submit(self._encoders, context, partial(_finish, encoded, done, work))
            except RuntimeError as refusal:  # closed: nobody waits for ever
                _fail(encoded, refusal)

    def _submit(
        self, threads: ThreadPoolExecutor, context: Context, work: Callable[[], T]
    ) -> Future[T]:
        return threads.submit(context.run, self._noted, [work])

    def trouble(self, *, patience_s: float) -> str | None:
        """Why nothing may be expected of it any more, None while it works."""
        began = list(self._began.values())
        longest_s = max((time.perf_counter() - begin for begin in began), default=0.0)
        if longest_s > patience_s:
            return f"an image has been decoded or encoded for {longest_s:.0f} s"
        return None

    def _noted(self, once: list[Callable[[], T]]) -> T:
        """Takes the work out of the list: an error's frames lead to whoever called this, and would
        keep the image from being freed."""
        work = once.pop()
        thread = threading.get_ident()
        self._began[thread] = time.perf_counter()
        try:
            return work()
        finally:
            del self._began[thread], work

    def close(self) -> None:
        self._decoders.shutdown()
        self._encoders.shutdown()


def _pass_on(
    encoded: Future[T],
    decode: Callable[[], D],
    submit: Callable[[D], Future[F]],
    begin: Callable[[Future[F]], None],
) -> None:
    """In a thread that decodes; `begin` is given the device's answer."""
    try:
        image = [decode()]
        if not encoded.cancelled():
            submit(image.pop()).add_done_callback(begin)
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        _fail(encoded, error)
    finally:
        del encoded, decode, submit, begin  # as above


def _fail(future: Future[T], error: BaseException) -> None:
    """Where anybody still waits for it."""
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


def _finish(encoded: Future[T], done: Future[F], work: Callable[[F], T]) -> None:
    """In a thread that encodes."""
    if not encoded.set_running_or_notify_cancel():
        return
    try:
        encoded.set_result(work(done.result()))
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        encoded.set_exception(error)
    finally:
        del encoded, done, work  # as above


async def result_of(future: Future[T], *before: Future[Any]) -> T:
    """What a thread of the codec answers. A request that is cancelled meanwhile ends only when no
    thread works for it any more, not on what came `before` either, so that nothing still in use is
    counted as free."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    # not asyncio.wrap_future, let alone within asyncio.shield: the loop goes round for each
    future.add_done_callback(partial(_tell, loop, answer))
    try:
        return await answer
    except asyncio.CancelledError:
        await _end_of([each for each in (future, *before) if not each.cancel()])
        raise
    finally:
        # in an error's frames they would keep the image from being freed
        del answer, future, before


async def _end_of(working: list[Future[Any]]) -> None:
    """Whatever their ends are."""
    await asyncio.gather(*map(asyncio.wrap_future, working), return_exceptions=True)


def _tell(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], future: Future[T]) -> None:
    """In the thread that has found it."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, answer, future)


def _settle(answer: asyncio.Future[T], future: Future[T]) -> None:
    if answer.done():  # nobody waits for it any more
        return
    if future.cancelled():
        answer.cancel()
    elif (error := future.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(future.result())


def _threads(count: int, name: str) -> ThreadPoolExecutor:
    """Each computes on one core: there are as many as cores, and images to keep them busy.

    RuntimeError where the system has none for them. They are there from the start: an executor
    that cannot start one says so of work that another of its threads then does all the same.
    """
    executor = ThreadPoolExecutor(
        count, thread_name_prefix=name, initializer=torch.set_num_threads, initargs=(1,)
    )
    all_asked_for = threading.Event()  # until then none is free for the next
    try:
        for _ in range(count):
            executor.submit(all_asked_for.wait)
    finally:
        all_asked_for.set()
    return executor
