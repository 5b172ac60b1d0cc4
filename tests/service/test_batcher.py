"""Batching: nobody waits without need, nobody suffers for another."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch import Tensor

from service.batcher import UNCLAIMED_PASSES, Answer, Batcher, Flow, Load
from service.errors import EngineFailedError, OverloadedError

TIMEOUT_S = 30
BROKEN = 255


def unit(mark: int) -> Tensor:
    """Told apart by its colour."""
    return torch.full((3, 2, 2), mark, dtype=torch.uint8)


def mark_of(future: Future[Answer]) -> int:
    return int(future.result(TIMEOUT_S).logits[0, 0, 0])


class Device:
    """A stand-in for an engine: notes its passes, can be held busy, fails on BROKEN units and on
    more units than its memory holds."""

    name = "stand-in"
    precision = "float32"
    device = torch.device("cpu")

    def __init__(self, *, lanes: int = 1, memory: int = 1000) -> None:
        self.lanes = lanes
        self.memory = memory
        self.passes: list[list[int]] = []
        self.alone: list[bool] = []
        self.entered = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def warm_up(self, count: int) -> None:
        raise AssertionError("the batcher does not warm up")

    def forget(self, count: int) -> None:
        raise AssertionError("the batcher does not know what was prepared")

    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        marks = pixels[:, 0, 0, 0].tolist()
        self.passes.append(marks)
        self.alone.append(alone)
        self.entered.release()
        assert self.free.wait(TIMEOUT_S)
        if len(marks) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if BROKEN in marks:
            raise RuntimeError("the device stumbled over a unit")
        return pixels[:, :1].float()

    def close(self) -> None:
        raise AssertionError("the batcher does not own the engine")

    def hold(self) -> None:
        self.free.clear()

    def wait_until_busy(self) -> None:
        assert self.entered.acquire(timeout=TIMEOUT_S)


class Requests(ExitStack):
    """Flows that stay open until the end of the test."""

    def __init__(self, batcher: Batcher) -> None:
        super().__init__()
        self.batcher = batcher

    def flow(self) -> Flow:
        return self.enter_context(self.batcher.flow())

    def one(self, mark: int) -> Future[Answer]:
        return self.flow().submit(unit(mark))


@contextmanager
def started(device: Device, *, capacity: int = 8) -> Iterator[Requests]:
    batcher = Batcher(device)
    batcher.start(capacity=capacity)
    try:
        with Requests(batcher) as requests:
            yield requests
    finally:
        device.free.set()
        batcher.close()


class TestPasses:
    def test_a_lone_unit_is_run_at_once(self) -> None:
        device = Device()
        with started(device) as requests:
            waits = []
            for mark in range(20):
                with requests.batcher.flow() as flow:
                    waits.append(flow.submit(unit(mark)).result(TIMEOUT_S).queue_s)
        assert device.passes == [[mark] for mark in range(20)]
        # a timer would delay every one of them; a busy machine delays some
        assert min(waits) < 0.002

    def test_what_queued_during_one_pass_shares_the_next(self) -> None:
        device = Device()
        device.hold()
        with started(device) as requests:
            futures = [requests.one(0)]
            device.wait_until_busy()
            futures += [requests.one(mark) for mark in range(1, 5)]
            device.free.set()
            assert [mark_of(future) for future in futures] == [0, 1, 2, 3, 4]
        assert device.passes == [[0], [1, 2, 3, 4]]
        assert [f.result().batch_size for f in futures] == [1, 4, 4, 4, 4]

    @pytest.mark.parametrize(
        ("capacity", "passes"),
        [
            pytest.param(8, [[1, 2, 3, 4], [5, 6], [7]], id="only sizes that were prepared"),
            pytest.param(2, [[1, 2], [3, 4], [5]], id="never more than the capacity"),
        ],
    )
    def test_what_waits_is_divided_into_passes_in_its_order(
        self, capacity: int, passes: list[list[int]]
    ) -> None:
        device = Device()
        device.hold()
        count = sum(map(len, passes))
        with started(device, capacity=capacity) as requests:
            futures = [requests.one(0)]
            device.wait_until_busy()
            futures += [requests.one(mark) for mark in range(1, count + 1)]
            device.free.set()
            assert [mark_of(future) for future in futures] == list(range(count + 1))
        assert device.passes == [[0], *passes]

    def test_the_time_in_the_queue_and_on_the_device_are_told_apart(self) -> None:
        device = Device()
        device.hold()
        with started(device) as requests:
            first = requests.one(0)
            device.wait_until_busy()
            second = requests.one(1)
            threading.Timer(0.2, device.free.set).start()
            assert first.result(TIMEOUT_S).device_s > 0.1
            assert second.result(TIMEOUT_S).queue_s > 0.1
            assert first.result().queue_s < first.result().device_s
            assert second.result().device_s < second.result().queue_s


class TestLanes:
    def test_run_side_by_side(self) -> None:
        device = Device(lanes=2)
        device.hold()
        with started(device) as requests:
            futures = [requests.one(0)]
            device.wait_until_busy()
            futures.append(requests.one(1))
            device.wait_until_busy()  # while the first still is
            device.free.set()
            assert [mark_of(future) for future in futures] == [0, 1]
        assert sorted(device.passes) == [[0], [1]]

    @pytest.mark.parametrize(
        ("device_type", "count", "size"),
        [
            ("cpu", 8, 2),
            ("cpu", 5, 2),
            ("cpu", 4, 1),
            ("cuda", 4, 2),
            ("cuda", 3, 2),
            ("cuda", 1, 1),
        ],
    )
    def test_idle_lanes_share_what_waits(self, device_type: str, count: int, size: int) -> None:
        device = Device(lanes=2)
        device.device = torch.device(device_type)
        with started(device, capacity=8) as requests:
            flow = requests.flow()
            with requests.batcher._wake:  # several units at once, before any lane looks
                futures = [flow.submit(unit(mark)) for mark in range(count)]
            assert [mark_of(future) for future in futures] == list(range(count))
        assert max(len(marks) for marks in device.passes) == size

    @pytest.mark.parametrize(("device_type", "size"), [("cpu", 1), ("cuda", 4)])
    def test_a_busy_lane_has_its_share_where_it_is_a_core(
        self, device_type: str, size: int
    ) -> None:
        """The last tiles of an image, all in one lane, would leave the others idle. A GPU's lanes
        take turns with it."""
        device = Device(lanes=2)
        device.device = torch.device(device_type)
        device.hold()
        with started(device, capacity=8) as requests:
            first = requests.one(9)
            device.wait_until_busy()
            flow = requests.flow()
            with requests.batcher._wake:
                futures = [flow.submit(unit(mark)) for mark in range(4)]
            device.wait_until_busy()  # the other lane
            device.free.set()
            assert [mark_of(future) for future in (first, *futures)] == [9, 0, 1, 2, 3]
        assert len(device.passes[1]) == size

    def test_the_last_passes_of_a_cpu_s_lanes_are_small(self) -> None:
        """They began at different times; a large one at the end would leave the others idle."""
        device = Device(lanes=2)
        device.hold()
        with started(device, capacity=8) as requests:
            flow = requests.flow()
            with requests.batcher._wake:
                futures = [flow.submit(unit(mark)) for mark in range(16)]
            device.free.set()
            assert [mark_of(future) for future in futures] == list(range(16))
        assert sorted(len(marks) for marks in device.passes) == [1, 1, 1, 1, 2, 2, 2, 2, 4]

    def test_a_single_lane_takes_all(self) -> None:
        device = Device()
        with started(device, capacity=8) as requests:
            flow = requests.flow()
            with requests.batcher._wake:
                futures = [flow.submit(unit(mark)) for mark in range(8)]
            assert [mark_of(future) for future in futures] == list(range(8))
        assert device.passes == [list(range(8))]

    def test_a_pass_is_alone_when_nothing_else_runs_or_waits(self) -> None:
        device = Device(lanes=2)
        device.hold()
        with started(device) as requests:
            futures = [requests.one(0)]
            device.wait_until_busy()
            futures.append(requests.one(1))
            device.wait_until_busy()
            device.free.set()
            assert [mark_of(future) for future in futures] == [0, 1]
        assert device.alone == [True, False]

    def test_nor_while_the_answers_of_another_image_are_read(self) -> None:
        device = Device()
        with started(device) as requests:
            assert mark_of(requests.one(0)) == 0
            assert mark_of(requests.one(1)) == 1
            requests.close()
            with requests.batcher.flow() as flow:
                assert mark_of(flow.submit(unit(2))) == 2
        assert device.alone == [True, False, True]


class TestFairness:
    def test_requests_take_turns_however_many_units_one_has(self) -> None:
        device = Device()
        device.hold()
        with started(device, capacity=2) as requests:
            large = requests.flow()
            futures = [large.submit(unit(100 + index)) for index in range(6)]
            device.wait_until_busy()
            futures += [requests.one(1), requests.one(2)]
            device.free.set()
            for future in futures:
                future.result(TIMEOUT_S)
        order = [mark for marks in device.passes for mark in marks]
        assert order.index(1) <= 4
        assert order.index(2) <= 5
        assert [mark for mark in order if mark >= 100] == [100 + index for index in range(6)]


class TestMemory:
    def test_the_device_does_not_run_ahead_of_those_who_read_its_answers(self) -> None:
        device = Device()
        count = 3 * UNCLAIMED_PASSES
        with started(device, capacity=1) as requests:
            flow = requests.flow()
            futures = [flow.submit(unit(mark)) for mark in range(count)]
            assert mark_of(futures[UNCLAIMED_PASSES - 1]) == UNCLAIMED_PASSES - 1
            assert not device.entered.acquire(timeout=0.2) or len(device.passes) <= UNCLAIMED_PASSES
            for future in futures:
                future.result(TIMEOUT_S)
                assert len(device.passes) <= futures.index(future) + UNCLAIMED_PASSES
                flow.release()

    def test_nor_does_the_last_pass_hold_more_than_may_be_unread(self) -> None:
        """Passes of four behind one of one would come to one too many."""
        device = Device()
        capacity = 4
        room = UNCLAIMED_PASSES * capacity
        with started(device, capacity=capacity) as requests:
            flow = requests.flow()
            flow.submit(unit(0)).result(TIMEOUT_S)
            futures = [flow.submit(unit(mark)) for mark in range(1, 2 * room)]
            futures[room - 2].result(TIMEOUT_S)
            assert sum(map(len, device.passes)) == room

    def test_a_request_that_leaves_gives_its_unread_answers_back(self) -> None:
        device = Device()
        with started(device, capacity=1) as requests:
            with requests.batcher.flow() as flow:
                for mark in range(UNCLAIMED_PASSES):
                    flow.submit(unit(mark)).result(TIMEOUT_S)
            assert mark_of(requests.one(9)) == 9

    def test_a_pass_that_does_not_fit_is_halved_until_it_does(self) -> None:
        device = Device(memory=2)
        device.hold()
        with started(device, capacity=8) as requests:
            futures = [requests.one(0)]
            device.wait_until_busy()
            futures += [requests.one(mark) for mark in range(1, 9)]
            device.free.set()
            assert [mark_of(future) for future in futures] == list(range(9))
            assert requests.batcher.capacity == 2
            requests.close()  # all of them have read their answers
            futures = [requests.one(mark) for mark in range(8)]
            assert [mark_of(future) for future in futures] == list(range(8))
        sizes = [len(marks) for marks in device.passes]
        assert sizes[:4] == [1, 8, 4, 2]
        assert max(sizes[-4:]) <= 2

    def test_a_unit_that_never_fits_is_refused_for_now(self) -> None:
        with started(Device(memory=0)) as requests, pytest.raises(OverloadedError, match="memory"):
            requests.one(0).result(TIMEOUT_S)


class TestFailures:
    def test_one_failing_unit_does_not_fail_its_batch_mates(self) -> None:
        device = Device()
        device.hold()
        with started(device) as requests:
            requests.one(0)
            device.wait_until_busy()
            good = [requests.one(1), requests.one(2)]
            bad = requests.one(BROKEN)
            last = requests.one(3)
            device.free.set()
            assert [mark_of(future) for future in (*good, last)] == [1, 2, 3]
            with pytest.raises(EngineFailedError) as caught:
                bad.result(TIMEOUT_S)
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "stumbled" not in caught.value.detail

    def test_the_device_goes_on_after_a_failure(self) -> None:
        with started(Device()) as requests:
            with pytest.raises(EngineFailedError):
                requests.one(BROKEN).result(TIMEOUT_S)
            assert mark_of(requests.one(4)) == 4


class TestQueue:
    def test_what_a_leaving_request_still_has_waiting_never_reaches_the_device(self) -> None:
        device = Device()
        device.hold()
        with started(device) as requests:
            requests.one(0)
            device.wait_until_busy()
            stays = [requests.one(1)]
            with requests.batcher.flow() as flow:
                gone = [flow.submit(unit(10)), flow.submit(unit(11))]
            assert requests.batcher.load().units == 1
            stays.append(requests.one(2))
            device.free.set()
            assert [mark_of(future) for future in stays] == [1, 2]
            for future in gone:
                with pytest.raises(CancelledError):
                    future.result(0)
        assert device.passes == [[0], [1, 2]]

    def test_who_was_answered_or_has_left_waits_no_more(self) -> None:
        device = Device()
        device.hold()
        batcher = Batcher(device)
        batcher.start(capacity=1)
        with batcher.flow() as running:
            future = running.submit(unit(0))
            device.wait_until_busy()
            assert (batcher.load().images, batcher.load().waiting) == (1, 0)
            with batcher.flow() as waiting:
                waiting.submit(unit(1))
                assert (batcher.load().images, batcher.load().waiting) == (2, 1)
            assert (batcher.load().images, batcher.load().waiting) == (1, 0)
            device.free.set()
            assert mark_of(future) == 0
        batcher.close()
        assert batcher.load() == Load(0, 0, 0, 0, 0.0)

    def test_cancelled_work_is_skipped(self) -> None:
        device = Device()
        device.hold()
        with started(device, capacity=1) as requests:
            requests.one(0)
            device.wait_until_busy()
            assert requests.one(1).cancel()
            device.free.set()
            assert mark_of(requests.one(2)) == 2
        assert device.passes == [[0], [2]]


class TestClose:
    def test_accepted_work_is_answered_before_close_returns(self) -> None:
        device = Device()
        device.hold()
        batcher = Batcher(device)
        batcher.start(capacity=2)
        requests = Requests(batcher)
        flow = requests.flow()
        futures = [flow.submit(unit(mark)) for mark in range(7)]
        for future in futures:
            future.add_done_callback(lambda _: flow.release())
        futures[-1].add_done_callback(lambda _: threading.Thread(target=requests.close).start())
        threading.Timer(0.1, device.free.set).start()
        batcher.close()
        assert [mark_of(future) for future in futures] == list(range(7))

    def test_a_request_inside_may_still_submit_and_a_new_one_may_not(self) -> None:
        with started(Device()) as requests:
            flow = requests.flow()
            closing = threading.Thread(target=requests.batcher.close)
            closing.start()
            while not requests.batcher._closing:
                pass
            with pytest.raises(OverloadedError, match="stopping"):
                requests.flow()
            assert mark_of(flow.submit(unit(5))) == 5
            requests.close()
            closing.join(TIMEOUT_S)
            assert not closing.is_alive()

    def test_a_batcher_that_never_started_can_be_closed(self) -> None:
        Batcher(Device()).close()

    def test_no_thread_is_left_behind(self) -> None:
        def lanes() -> set[int | None]:
            found = threading.enumerate()
            return {thread.ident for thread in found if thread.name.startswith("device-")}

        before = lanes()
        with started(Device(lanes=2)) as requests:
            requests.one(0).result(TIMEOUT_S)
            assert len(lanes() - before) == 2
        assert lanes() == before
