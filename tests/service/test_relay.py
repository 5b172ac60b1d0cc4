"""An upload's way through the codec's threads: decoded, submitted, and what is found encoded."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

import pytest

from service.codec import Codec
from tests.service.clients import finished
from tests.service.running import until

T = TypeVar("T")
request: ContextVar[str] = ContextVar("request", default="none")


def test_every_step_is_done_in_its_thread() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        names: list[str] = []
        found: Future[int] = Future()

        def step(value: T) -> T:
            names.append(threading.current_thread().name)
            return value

        def submit(number: int) -> Future[int]:
            assert step(number) == 1
            return found

        relay = codec.relay(lambda: step(1), submit, lambda number: step(number + 1))
        relaying = asyncio.create_task(relay)
        await asyncio.to_thread(until, lambda: len(names) == 2)
        found.set_result(41)
        assert await relaying == 42
        assert [name.rstrip("_0123456789") for name in names] == ["decode", "decode", "encode"]
        codec.close()

    finished(check())


def test_every_step_belongs_to_the_request() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        found: Future[str] = Future()
        submitted: list[str] = []

        def submit(name: str) -> Future[str]:
            submitted.append(request.get())
            return found

        token = request.set("this one")
        relay = codec.relay(request.get, submit, lambda _: request.get())
        relaying = asyncio.create_task(relay)
        await asyncio.to_thread(until, lambda: submitted)
        request.reset(token)
        await asyncio.to_thread(found.set_result, "")
        assert await relaying == "this one"
        assert submitted == ["this one"]
        codec.close()

    finished(check())


class Panic(BaseException):
    """As libraries raise that are written in Rust."""


@pytest.mark.parametrize("kind", [KeyError, Panic])
@pytest.mark.parametrize("step", ["decode", "submit", "device", "encode"])
def test_an_error_is_raised_of_each(step: str, kind: type[BaseException]) -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)

        def fail_at(name: str) -> None:
            if name == step:
                raise kind(name)

        def submit(_: None) -> Future[None]:
            fail_at("submit")
            found: Future[None] = Future()
            if step == "device":
                found.set_exception(kind(step))
            else:
                found.set_result(None)
            return found

        with pytest.raises(kind, match=step):
            await codec.relay(lambda: fail_at("decode"), submit, lambda _: fail_at("encode"))
        codec.close()

    finished(check())


def test_who_goes_while_it_is_decoded_waits_for_that_and_submits_nothing() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        begun, free = threading.Event(), threading.Event()
        submitted: list[int] = []

        def decode() -> int:
            begun.set()
            assert free.wait(30)
            return 1

        def submit(number: int) -> Future[int]:
            submitted.append(number)
            return Future()

        relaying = asyncio.create_task(codec.relay(decode, submit, lambda number: number))
        await asyncio.to_thread(begun.wait, 30)
        relaying.cancel()
        await asyncio.sleep(0.05)
        assert not relaying.done()
        free.set()
        with pytest.raises(asyncio.CancelledError):
            await relaying
        await codec.decoding(lambda: None)  # behind it
        codec.close()
        assert submitted == []

    finished(check())


def test_who_goes_before_is_never_decoded() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        free, done = threading.Event(), list[int]()
        first = asyncio.create_task(codec.decoding(lambda: free.wait(30)))
        await asyncio.sleep(0)
        relay = codec.relay(lambda: done.append(1), lambda _: Future[None](), lambda _: None)
        relaying = asyncio.create_task(relay)
        await asyncio.sleep(0)
        relaying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relaying
        free.set()
        await first
        await codec.decoding(lambda: None)
        codec.close()
        assert done == []

    finished(check())


def test_who_goes_while_the_device_has_it_is_not_waited_for() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        found: Future[int] = Future()
        submitted, encoded = list[int](), list[int]()

        def submit(number: int) -> Future[int]:
            submitted.append(number)
            return found

        relaying = asyncio.create_task(codec.relay(lambda: 1, submit, encoded.append))
        await asyncio.to_thread(until, lambda: submitted)
        await codec.decoding(lambda: None)
        relaying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relaying
        found.set_result(1)
        await codec.encoding(lambda: None)
        codec.close()
        assert encoded == []

    finished(check())


@pytest.mark.parametrize("step", ["decode", "submit"])
def test_an_error_does_not_keep_the_upload(step: str) -> None:
    class Upload:
        """To be told when it is freed."""

    def decode(upload: Upload) -> Upload:
        if step == "decode":
            raise ValueError("no image")
        return upload

    def submit(upload: Upload) -> Future[int]:
        raise ValueError("no place")

    async def check() -> weakref.ref[Upload]:
        codec = Codec(threads=1, max_pixels=1000)
        upload = Upload()
        told = weakref.ref(upload)
        relay = codec.relay(partial(decode, upload), submit, lambda number: number)
        del upload
        failed = False
        try:
            await relay
        except ValueError:
            failed = True
        assert failed
        await codec.decoding(lambda: None)
        codec.close()
        return told

    gc.disable()
    try:
        assert finished(check())() is None
    finally:
        gc.enable()


def test_an_image_is_free_once_it_is_submitted() -> None:
    """Whatever becomes of the request."""

    class Image:
        """To be told when it is freed."""

    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        found: Future[int] = Future()
        images: list[weakref.ref[Image]] = []

        def submit(image: Image) -> Future[int]:
            images.append(weakref.ref(image))
            return found

        relaying = asyncio.create_task(codec.relay(Image, submit, lambda number: number))
        await asyncio.to_thread(until, lambda: images)
        await codec.decoding(lambda: None)
        assert images[0]() is None
        found.set_result(1)
        assert await relaying == 1
        codec.close()

    gc.disable()
    try:
        finished(check())
    finally:
        gc.enable()
