"""The threads that decode and encode: how many, whose, and from when."""

import asyncio
import gc
import threading
from concurrent.futures import Future

import pytest
import torch

from service.codec import Codec
from tests.service.clients import finished
from tests.service.running import until


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


def thread_name() -> str:
    return threading.current_thread().name


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
