"""Until when an answer is of use."""

import asyncio
import gc
import weakref

import pytest

from service import deadline
from service.deadline import Deadline
from service.errors import DeadlineError
from tests.service.clients import finished


class Upload:
    """To be told when it is freed."""


async def answer_after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "mask"


async def work_until(ends: list[str]) -> None:
    """For longer than anyone waits; notes its end."""
    try:
        await asyncio.sleep(30)
    finally:
        ends.append("given up")


def test_what_is_done_in_time_is_answered() -> None:
    async def check() -> None:
        assert await Deadline(30).of(answer_after(0)) == "mask"
        assert not deadline._given_up

    finished(check())


def test_what_is_not_is_given_up() -> None:
    ends: list[str] = []

    async def check() -> None:
        with pytest.raises(DeadlineError, match=r"no answer after 0\.05 s"):
            await Deadline(0.05).of(work_until(ends))
        assert ends == ["given up"]
        await asyncio.sleep(0)
        assert not deadline._given_up

    finished(check())


def test_time_passes_before_it_is_asked() -> None:
    async def check() -> None:
        late = Deadline(0.01)
        await asyncio.sleep(0.05)
        with pytest.raises(DeadlineError):
            await late.of(answer_after(30))

    finished(check())


def test_who_cannot_be_interrupted_goes_on_and_is_remembered_until_the_end() -> None:
    free, ends = asyncio.Event(), list[str]()

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await free.wait()
            ends.append("gave everything back")
            raise

    async def check() -> None:
        with pytest.raises(DeadlineError):
            await Deadline(0.05).of(work())
        assert ends == []
        assert len(deadline._given_up) == 1
        gc.collect()  # the event loop itself keeps no task alive
        free.set()
        await asyncio.sleep(0.01)
        assert ends == ["gave everything back"]
        assert not deadline._given_up

    finished(check())


def test_who_goes_ends_the_work() -> None:
    ends: list[str] = []

    async def check() -> None:
        asking = asyncio.create_task(Deadline(30).of(work_until(ends)))
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert ends == ["given up"]

    finished(check())


def test_work_that_is_cancelled_is_no_answer() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    async def check() -> None:
        with pytest.raises(asyncio.CancelledError):
            await Deadline(30).of(work())

    finished(check())


def test_an_error_is_raised_and_keeps_nothing() -> None:
    async def work(upload: Upload) -> None:
        await asyncio.sleep(0)
        raise ValueError("no mask")

    async def check() -> weakref.ref[Upload]:
        upload = Upload()
        told = weakref.ref(upload)
        answer = Deadline(30).of(work(upload))
        del upload
        failed = False
        try:
            await answer
        except ValueError:
            failed = True
        assert failed
        return told

    gc.disable()
    try:
        assert finished(check())() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("fails", [False, True])
def test_nobody_speaks_of_what_ends_too_late(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            if fails:
                raise ValueError("no mask") from None

    async def check() -> None:
        with pytest.raises(DeadlineError):
            await Deadline(0.01).of(work())
        await asyncio.sleep(0.2)

    finished(check())
    gc.collect()
    assert caplog.text == ""
