"""The threads that decode and encode."""

import asyncio
import threading

import pytest

from service.codec import Codec
from tests.service.clients import finished


def test_a_request_that_is_given_up_waits_for_the_thread_that_works_for_it() -> None:
    """What it holds counts until nobody uses it any more."""

    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        begun, free = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            assert free.wait(30)

        task = asyncio.create_task(codec.decoding(work))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        free.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        codec.close()

    finished(check())


def test_one_that_has_not_begun_is_never_done() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        begun, free = threading.Event(), threading.Event()
        done: list[int] = []

        def work() -> None:
            begun.set()
            assert free.wait(30)

        first = asyncio.create_task(codec.decoding(work))
        await asyncio.to_thread(begun.wait, 30)
        gone = asyncio.create_task(codec.decoding(lambda: done.append(1)))
        await asyncio.sleep(0.05)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        free.set()
        await first
        await codec.decoding(lambda: done.append(2))
        codec.close()
        assert done == [2]

    finished(check())


def test_encoding_never_waits_behind_decoding() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        free = threading.Event()
        decoding = asyncio.create_task(codec.decoding(lambda: free.wait(30)))
        assert await codec.encoding(lambda: "mask") == "mask"
        assert not decoding.done()
        free.set()
        assert await decoding
        codec.close()

    finished(check())
