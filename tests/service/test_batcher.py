"""Batching: nobody waits without need, nobody suffers for another."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager

import pytest
import torch

from models.upsample import Segmentation
from service.batcher import Answer, Batcher
from service.engine import Unit
from service.errors import EngineFailedError, OverloadedError

Run = Callable[[list[Unit]], list[Segmentation]]
TIMEOUT_S = 30
BROKEN = 255


def unit(mark: int) -> Unit:
    """Told apart by its height."""
    return Unit(torch.zeros(3, 8, 8, dtype=torch.uint8), mark, 1)


def answer_for(mark: int) -> Segmentation:
    labels = torch.full((1, 1), mark, dtype=torch.uint8)
    return Segmentation(labels, torch.tensor([mark]), torch.tensor([0.5]))


def mark_of(answer: Answer) -> int:
    return int(answer.segmentation.pixels[0])


class Device:
    """A stand-in for the engine: notes its batches, can be held busy, fails on BROKEN units."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.busy = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def run(self, units: list[Unit]) -> list[Segmentation]:
        marks = [each.height for each in units]
        self.batches.append(marks)
        self.busy.set()
        assert self.free.wait(TIMEOUT_S)
        if BROKEN in marks:
            raise RuntimeError("the device stumbled over a unit")
        return [answer_for(mark) for mark in marks]

    def hold(self) -> None:
        self.free.clear()
        self.busy.clear()

    def wait_until_busy(self) -> None:
        assert self.busy.wait(TIMEOUT_S)


@contextmanager
def started(run: Run, *, max_batch: int = 8, max_queue: int = 100) -> Iterator[Batcher]:
    batcher = Batcher(run, max_batch=max_batch, max_queue=max_queue)
    batcher.start()
    try:
        yield batcher
    finally:
        batcher.close()


class TestBatches:
    def test_a_lone_unit_is_run_at_once(self) -> None:
        device = Device()
        with started(device.run) as batcher:
            waits = [batcher.submit(unit(n)).result(TIMEOUT_S).queue_s for n in range(20)]
        assert device.batches == [[n] for n in range(20)]
        # a timer would delay every one of them; a busy machine delays some
        assert min(waits) < 0.002

    def test_what_queued_during_one_pass_is_the_next_batch(self) -> None:
        device = Device()
        device.hold()
        with started(device.run) as batcher:
            futures = [batcher.submit(unit(0))]
            device.wait_until_busy()
            futures += [batcher.submit(unit(n)) for n in range(1, 6)]
            device.free.set()
            assert [mark_of(f.result(TIMEOUT_S)) for f in futures] == [0, 1, 2, 3, 4, 5]
        assert device.batches == [[0], [1, 2, 3, 4, 5]]
        assert [f.result().batch_size for f in futures] == [1, 5, 5, 5, 5, 5]

    def test_no_batch_exceeds_the_bound_and_the_order_is_kept(self) -> None:
        device = Device()
        device.hold()
        with started(device.run, max_batch=3) as batcher:
            futures = [batcher.submit(unit(0))]
            device.wait_until_busy()
            futures += [batcher.submit(unit(n)) for n in range(1, 9)]
            device.free.set()
            wait(futures, TIMEOUT_S)
        assert device.batches == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]

    def test_the_time_in_the_queue_and_on_the_device_are_told_apart(self) -> None:
        device = Device()
        device.hold()
        with started(device.run) as batcher:
            first = batcher.submit(unit(0))
            device.wait_until_busy()
            second = batcher.submit(unit(1))
            threading.Timer(0.2, device.free.set).start()
            assert first.result(TIMEOUT_S).device_s > 0.1
            assert second.result(TIMEOUT_S).queue_s > 0.1
            assert first.result().queue_s < first.result().device_s
            assert second.result().device_s < second.result().queue_s


class TestFailures:
    def test_one_failing_unit_does_not_fail_its_batch_mates(self) -> None:
        device = Device()
        device.hold()
        with started(device.run) as batcher:
            batcher.submit(unit(0))
            device.wait_until_busy()
            good = [batcher.submit(unit(1)), batcher.submit(unit(2))]
            bad = batcher.submit(unit(BROKEN))
            last = batcher.submit(unit(3))
            device.free.set()
            assert [mark_of(f.result(TIMEOUT_S)) for f in (*good, last)] == [1, 2, 3]
            with pytest.raises(EngineFailedError) as caught:
                bad.result(TIMEOUT_S)
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "stumbled" not in caught.value.detail

    def test_the_device_goes_on_after_a_failure(self) -> None:
        device = Device()
        with started(device.run) as batcher:
            with pytest.raises(EngineFailedError):
                batcher.submit(unit(BROKEN)).result(TIMEOUT_S)
            assert mark_of(batcher.submit(unit(4)).result(TIMEOUT_S)) == 4


class TestQueue:
    def test_a_full_queue_refuses_and_says_how_full_it_is(self) -> None:
        device = Device()
        device.hold()
        with started(device.run, max_queue=2) as batcher:
            accepted = [batcher.submit(unit(0))]
            device.wait_until_busy()
            accepted += [batcher.submit(unit(1)), batcher.submit(unit(2))]
            with pytest.raises(OverloadedError, match="2 images are waiting"):
                batcher.submit(unit(3))
            device.free.set()
            assert [mark_of(f.result(TIMEOUT_S)) for f in accepted] == [0, 1, 2]
            assert mark_of(batcher.submit(unit(4)).result(TIMEOUT_S)) == 4

    def test_cancelled_work_never_reaches_the_device(self) -> None:
        device = Device()
        device.hold()
        with started(device.run) as batcher:
            batcher.submit(unit(0))
            device.wait_until_busy()
            futures = [batcher.submit(unit(n)) for n in (1, 2, 3)]
            assert futures[1].cancel()
            device.free.set()
            assert mark_of(futures[2].result(TIMEOUT_S)) == 3
        assert device.batches == [[0], [1, 3]]

    def test_a_batch_of_cancelled_work_alone_is_skipped(self) -> None:
        device = Device()
        device.hold()
        with started(device.run, max_batch=1) as batcher:
            batcher.submit(unit(0))
            device.wait_until_busy()
            assert batcher.submit(unit(1)).cancel()
            device.free.set()
            assert mark_of(batcher.submit(unit(2)).result(TIMEOUT_S)) == 2
        assert device.batches == [[0], [2]]


class TestClose:
    def test_accepted_work_is_answered_before_close_returns(self) -> None:
        device = Device()
        device.hold()
        batcher = Batcher(device.run, max_batch=2, max_queue=100)
        batcher.start()
        futures = [batcher.submit(unit(n)) for n in range(7)]
        threading.Timer(0.1, device.free.set).start()
        batcher.close()
        assert [mark_of(f.result(0)) for f in futures] == list(range(7))

    def test_nothing_is_accepted_once_closed(self) -> None:
        with started(Device().run) as batcher:
            batcher.close()
            with pytest.raises(OverloadedError, match="stopping"):
                batcher.submit(unit(0))

    def test_a_batcher_that_never_started_can_be_closed(self) -> None:
        Batcher(Device().run, max_batch=1, max_queue=1).close()

    def test_no_thread_is_left_behind(self) -> None:
        with started(Device().run) as batcher:
            batcher.submit(unit(0)).result(TIMEOUT_S)
            assert "device" in [thread.name for thread in threading.enumerate()]
            before = {thread.ident for thread in threading.enumerate() if thread.name == "device"}
        after = {thread.ident for thread in threading.enumerate() if thread.name == "device"}
        assert len(after) == len(before) - 1
