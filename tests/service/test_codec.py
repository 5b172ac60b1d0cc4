"""Work for the threads that decode and encode, and what becomes of it."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import Future
from contextvars import ContextVar

import pytest

from service.codec import Codec
from tests.service.clients import finished

request: ContextVar[str] = ContextVar("request", default="none")


def test_what_takes_too_long_is_trouble_until_it_ends() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        free, begun = threading.Event(), threading.Event()

        def begin() -> bool:
            begun.set()
            return free.wait(30)

        assert codec.trouble(patience_s=0) is None
        long = asyncio.create_task(codec.decoding(lambda: free.wait(30)))
        await asyncio.sleep(0.5)
        assert codec.trouble(patience_s=30) is None
        short = asyncio.create_task(codec.encoding(begin))
        assert await asyncio.to_thread(begun.wait, 30)
        assert "decoded or encoded for" in (codec.trouble(patience_s=0.4) or "")
        free.set()
        assert await long
        assert await short
        assert codec.trouble(patience_s=0) is None
        codec.close()

    finished(check())


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


class TestEncodingAResult:
    """Of what another thread finds."""

    def test_is_done_in_a_thread_that_encodes(self) -> None:
        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            names: list[str] = []

            def work(number: int) -> int:
                names.append(threading.current_thread().name)
                return number + 1

            encoding = asyncio.create_task(codec.encoding_result(found, work))
            await asyncio.sleep(0)
            found.set_result(41)
            assert await encoding == 42
            assert names[0].startswith("encode")
            codec.close()

        finished(check())

    def test_belongs_to_the_request_that_asked_for_it(self) -> None:
        """Its log lines, say: whoever finds the result is of no request."""

        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            token = request.set("this one")
            encoding = asyncio.create_task(codec.encoding_result(found, lambda _: request.get()))
            await asyncio.sleep(0)
            request.reset(token)
            await asyncio.to_thread(found.set_result, 0)
            assert await encoding == "this one"
            codec.close()

        finished(check())

    def test_errors_are_raised_of_either(self) -> None:
        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            found.set_exception(KeyError("not found"))
            with pytest.raises(KeyError, match="not found"):
                await codec.encoding_result(found, lambda number: number)
            found = Future()
            found.set_result(0)
            with pytest.raises(ZeroDivisionError):
                await codec.encoding_result(found, lambda number: 1 / number)
            codec.close()

        finished(check())

    def test_who_goes_before_it_is_found_is_not_waited_for(self) -> None:
        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            done: list[int] = []
            encoding = asyncio.create_task(codec.encoding_result(found, done.append))
            await asyncio.sleep(0)
            encoding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await encoding
            found.set_result(1)
            await codec.encoding(lambda: None)
            codec.close()
            assert done == []

        finished(check())

    @pytest.mark.parametrize("fails", [False, True])
    def test_who_goes_later_waits_for_the_thread(
        self, fails: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whatever that ends with, which nobody speaks of."""

        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            begun, free = threading.Event(), threading.Event()

            def work(number: int) -> None:
                begun.set()
                assert free.wait(30)
                if fails:
                    raise ValueError("no mask")

            encoding = asyncio.create_task(codec.encoding_result(found, work))
            await asyncio.sleep(0)
            found.set_result(1)
            await asyncio.to_thread(begun.wait, 30)
            encoding.cancel()
            await asyncio.sleep(0.05)
            assert not encoding.done()
            free.set()
            with pytest.raises(asyncio.CancelledError):
                await encoding
            codec.close()

        finished(check())
        gc.collect()
        assert caplog.text == ""

    def test_nobody_waits_for_ever_when_the_threads_have_ended(self) -> None:
        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            encoding = asyncio.create_task(codec.encoding_result(found, lambda number: number))
            await asyncio.sleep(0)
            codec.close()
            found.set_result(1)
            with pytest.raises(RuntimeError, match="after shutdown"):
                await encoding

        finished(check())

    def test_an_error_does_not_keep_what_was_found(self) -> None:
        class Image:
            """To be told when it is freed."""

        def work(image: Image) -> None:
            raise ValueError("no mask")

        async def check() -> weakref.ref[Image]:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[Image] = Future()
            found.set_result(image := Image())
            told = weakref.ref(image)
            encoding = codec.encoding_result(found, work)
            del found, image
            failed = False
            try:
                await encoding
            except ValueError:
                failed = True
            assert failed
            codec.close()
            return told

        gc.disable()
        try:
            assert finished(check())() is None
        finally:
            gc.enable()

    @pytest.mark.parametrize("end", ["fails", "is cancelled", "is found"])
    def test_nobody_speaks_of_what_was_given_up(
        self, end: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            encoding = asyncio.create_task(codec.encoding_result(found, lambda number: number))
            await asyncio.sleep(0)
            encoding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await encoding
            if end == "fails":
                found.set_exception(ValueError("out of memory"))
            elif end == "is cancelled":
                found.cancel()
            else:
                found.set_result(1)
            codec.close()

        finished(check())
        assert caplog.text == ""

    def test_what_is_cancelled_before_it_is_asked_for_is_quiet_too(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            found.cancel()
            with pytest.raises(asyncio.CancelledError):
                await codec.encoding_result(found, lambda number: number)
            codec.close()

        finished(check())
        assert caplog.text == ""

    def test_what_is_never_run_is_never_encoded(self) -> None:
        async def check() -> None:
            codec = Codec(threads=1, max_pixels=1000)
            found: Future[int] = Future()
            encoding = asyncio.create_task(codec.encoding_result(found, lambda number: number))
            await asyncio.sleep(0)
            found.cancel()
            with pytest.raises(asyncio.CancelledError):
                await encoding
            codec.close()

        finished(check())
