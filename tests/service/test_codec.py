"""The threads that decode and encode."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import Future
from contextvars import ContextVar

import pytest
import torch

from service.codec import Codec
from tests.service.clients import finished
from tests.service.running import until

request: ContextVar[str] = ContextVar("request", default="none")


def test_each_of_its_threads_computes_on_one_core() -> None:
    """There are as many of them as cores."""

    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        assert await codec.decoding(torch.get_num_threads) == 1
        assert await codec.encoding(torch.get_num_threads) == 1
        codec.close()

    before = torch.get_num_threads()
    torch.set_num_threads(3)  # a new thread takes over what was set last
    try:
        finished(check())
    finally:
        torch.set_num_threads(before)


def test_each_kind_of_work_has_its_own() -> None:
    async def check() -> None:
        codec = Codec(threads=1, max_pixels=1000)
        decoding, encoding = codec.decoding(thread_name), codec.encoding(thread_name)
        assert (await decoding).startswith("decode")
        assert (await encoding).startswith("encode")
        codec.close()
        assert set(threading.enumerate()) <= before

    before = set(threading.enumerate())
    finished(check())


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


def thread_name() -> str:
    return threading.current_thread().name


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


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_its_threads_are_there_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an executor cannot start a thread for, another of its threads does unasked."""

    async def check() -> None:
        codec = Codec(threads=2, max_pixels=1000)
        found: Future[int] = Future()
        found.set_result(1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for ways in (codec.decoding, codec.encoding):
                meeting = threading.Barrier(2)
                together = (ways(lambda: meeting.wait(30)) for _ in range(2))  # noqa: B023
                assert sorted(await asyncio.gather(*together)) == [0, 1]
            assert await codec.encoding_result(found, lambda number: number + 1) == 2
            assert await codec.relay(lambda: 1, lambda _: found, lambda number: number + 2) == 3
        codec.close()

    finished(check())


def test_without_threads_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_two(thread: threading.Thread) -> None:
        if len(started) == 2:
            refuse(thread)
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_two)
        with pytest.raises(RuntimeError, match="start new thread"):
            Codec(threads=3, max_pixels=1000)
    assert len(started) == 2
    gc.collect()
    until(lambda: set(threading.enumerate()) <= before)  # none waits for ever
