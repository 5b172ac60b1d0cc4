"""Units of work from every request, put together to passes whenever the device is free.

Nothing waits on a timer: a request alone is run at once, and under load the queue that builds up
during one pass is the next one's. Requests take turns, unit by unit, so that one of thousands of
tiles delays the others by no more than its share.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from types import TracebackType

from torch import Tensor

from service.class_map import ClassMap
from service.engines.capacity import pass_size
from service.engines.engine import (
    Engine,
    SegmentingEngine,
    UndecodedError,
    Unit,
    is_out_of_memory,
    stack,
)
from service.errors import EngineFailedError, OverloadedError, ServiceError

logger = logging.getLogger(__name__)

OnPass = Callable[[int, float, bool], None]

UNCLAIMED_PASSES = 4  # of each lane: in the device, and read while the next are


@dataclass(frozen=True)
class Answer:
    """A unit's logits as of `Engine.run`, or what the engine made of them for its image, of the
    `size` that it was submitted with; how long it queued, when its pass `began`
    (`time.perf_counter`), how long that took and how many units shared it."""

    found: Tensor | ClassMap
    size: tuple[int, int] | None
    queue_s: float
    began: float
    device_s: float
    batch_size: int

    @property
    def logits(self) -> Tensor:
        """Of a unit that was submitted without its image's size."""
        assert isinstance(self.found, Tensor)
        return self.found


@dataclass(frozen=True)
class Load:
    """What a batcher holds at a moment: `images`, `waiting` of them for their first unit to be
    run; `units` in the queue; `passes` in the device, and for how long the longest of them is."""

    images: int
    waiting: int
    units: int
    passes: int
    longest_pass_s: float


@dataclass(eq=False)
class _Job:
    unit: Unit
    size: tuple[int, int] | None
    future: Future[Answer] = field(default_factory=Future)
    queued: float = field(default_factory=time.perf_counter)
    context: Context = field(default_factory=copy_context)  # of its request, for the log


class Flow:
    """The units of one image, in order. Whatever still waits at its end leaves the queue."""

    def __init__(self, batcher: "Batcher") -> None:
        self._batcher = batcher
        self._jobs: deque[_Job] = deque()
        self._unclaimed = 0

    def submit(self, unit: Unit, *, size: tuple[int, int] | None = None) -> Future[Answer]:
        """`size` is the (height, width) of the image that the unit is the whole of: some engines
        answer for that at once. JPEGs are for engines that decode; UndecodedError for one that
        was not."""
        return self._batcher._submit(self, _Job(unit, size))

    def release(self) -> None:
        """An answer has been used up. Until then it counts as memory: the device does not run
        ahead of those who read its answers."""
        self._batcher._release(self)

    def __enter__(self) -> "Flow":
        self._batcher._admit(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._batcher._leave(self)


class Batcher:
    """One thread for each of the engine's lanes. `close` answers what was accepted.

    `capacity` is how many units a pass holds; one that does not fit the memory lowers it.
    `on_pass` is told of every pass: its units, its seconds, and whether it failed. How much may
    wait is for those to bound who accept requests.
    """

    def __init__(self, engine: Engine, *, on_pass: OnPass | None = None) -> None:
        self.engine = engine
        self._segmenting = engine if isinstance(engine, SegmentingEngine) else None
        self.capacity = 1
        self._on_pass = on_pass
        self._flows: set[Flow] = set()
        self._waiting: set[Flow] = set()
        self._turns: deque[Flow] = deque()  # those with a unit in the queue
        self._queued = self._running = self._unclaimed = 0
        self._began: dict[int, float] = {}  # of the pass that a thread is in
        self._wake = threading.Condition()
        self._closing = False
        self._threads: list[threading.Thread] = []

    def start(self, *, capacity: int) -> None:
        self.capacity = capacity
        self._threads = [
            threading.Thread(target=self._work, name=f"device-{lane}", daemon=True)
            for lane in range(self.engine.lanes)
        ]
        for thread in self._threads:
            thread.start()

    def flow(self) -> Flow:
        """To be entered: OverloadedError when the service is stopping."""
        return Flow(self)

    def load(self) -> Load:
        with self._wake:
            longest_s = max((time.perf_counter() - b for b in self._began.values()), default=0.0)
            images, waiting = len(self._flows), len(self._waiting)
            return Load(images, waiting, self._queued, self._running, longest_s)

    def trouble(self, *, patience_s: float) -> str | None:
        """Why nothing may be expected of it any more, None while it works."""
        longest_s = self.load().longest_pass_s
        if longest_s > patience_s:
            return f"a pass of {self.engine.name} has not ended for {longest_s:.0f} s"
        if not self._closing and not all(thread.is_alive() for thread in self._threads):
            return f"a thread of {self.engine.name} has ended"
        return None

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _admit(self, flow: Flow) -> None:
        with self._wake:
            if self._closing:
                raise OverloadedError("the service is stopping", reason="draining")
            self._flows.add(flow)
            self._waiting.add(flow)

    def _leave(self, flow: Flow) -> None:
        with self._wake:
            self._flows.discard(flow)
            self._waiting.discard(flow)
            if flow._jobs:
                self._turns.remove(flow)
                self._queued -= len(flow._jobs)
                for job in flow._jobs:
                    job.future.cancel()
                flow._jobs.clear()
            self._unclaimed -= flow._unclaimed
            flow._unclaimed = 0
            self._wake.notify_all()

    def _submit(self, flow: Flow, job: _Job) -> Future[Answer]:
        with self._wake:
            if not flow._jobs:
                self._turns.append(flow)
            flow._jobs.append(job)
            self._queued += 1
            self._wake.notify()
        return job.future

    def _release(self, flow: Flow) -> None:
        with self._wake:
            flow._unclaimed -= 1
            self._unclaimed -= 1
            self._wake.notify()

    def _work(self) -> None:
        """Until the batcher is closed, whatever happens in a pass."""
        going_on = True
        while going_on:
            try:
                going_on = self._work_once()
            except Exception:
                logger.exception("a pass was given up")

    def _work_once(self) -> bool:
        """False at the end. A call of its own: no image is kept while the next is waited for."""
        with self._wake:
            self._wake.wait_for(lambda: self._has_work() or self._is_over())
            if self._is_over():
                return False
            jobs = self._take()
            # the answers of other images are being read, by threads that need cores as well
            others = self._running > 0 or bool(self._turns) or len(self._flows) > 1
            self._running += 1
        try:
            if jobs:
                self._compute(jobs, alone=not others)
        finally:
            for job in jobs:
                if not job.future.done():  # nobody must wait for ever
                    job.future.set_exception(EngineFailedError("the pass was given up"))
            with self._wake:
                self._running -= 1
        return True

    def _room(self) -> int:
        """How many more answers may wait to be read."""
        return UNCLAIMED_PASSES * self.engine.lanes * self.capacity - self._unclaimed

    def _has_work(self) -> bool:
        return bool(self._turns) and self._room() > 0

    def _is_over(self) -> bool:
        return self._closing and not self._flows

    def _take(self) -> list[_Job]:
        """A unit from each request in turn, and no more than leaves other lanes their share."""
        count = pass_size(min(self.capacity, self._room(), -(-self._queued // self._shares())))
        jobs: list[_Job] = []
        while self._turns and len(jobs) < count:
            flow = self._turns.popleft()
            job = flow._jobs.popleft()
            self._queued -= 1
            self._waiting.discard(flow)
            if flow._jobs:
                self._turns.append(flow)
            if job.future.set_running_or_notify_cancel():
                jobs.append(job)
                flow._unclaimed += 1
                self._unclaimed += 1
        return jobs

    def _shares(self) -> int:
        """For how many passes the queue should do. Lanes of a GPU take turns with it, so idle ones
        have a share. Those of a CPU soon have cores of their own to be busy with, whatever they
        are now; they take half of it for the next round, so that, whenever they began, they end
        at about the same time."""
        lanes = self.engine.lanes
        if self.engine.device.type == "cpu":
            return 2 * lanes if lanes > 1 else 1
        return max(1, lanes - self._running)

    def _compute(self, jobs: list[_Job], *, alone: bool) -> None:
        error = self._run(jobs, alone=alone)
        if error is None:
            return
        if len(jobs) == 1:
            jobs[0].future.set_exception(_failure(error))
            return
        size = 1  # one bad image must not fail its batch-mates, so each is tried alone
        if is_out_of_memory(error):
            size = len(jobs) // 2
            with self._wake:
                self.capacity = max(1, min(self.capacity, size))
        logger.warning("a pass of %d failed (%s); trying %d at a time", len(jobs), error, size)
        for begin in range(0, len(jobs), size):
            self._compute(jobs[begin : begin + size], alone=False)

    def _run(self, jobs: list[_Job], *, alone: bool) -> BaseException | None:
        """The error, if the pass failed. Without its frames, which would keep the images."""
        began = time.perf_counter()
        with self._wake:
            self._began[threading.get_ident()] = began
        try:
            answers = self._answers(jobs, alone=alone)
        except BaseException as error:  # noqa: BLE001 - returned and logged
            self._note_pass(len(jobs), began, failed=True)
            if len(jobs) == 1:
                log = jobs[0].context.run
                log(logger.error, "the network failed on an image", exc_info=error)
            return error.with_traceback(None)
        finally:
            with self._wake:
                del self._began[threading.get_ident()]
        took = self._note_pass(len(jobs), began, failed=False)
        for job, found in zip(jobs, answers, strict=True):
            if found is None:
                job.future.set_exception(UndecodedError())
            else:
                answer = Answer(found, job.size, began - job.queued, began, took, len(jobs))
                job.future.set_result(answer)
        return None

    def _answers(self, jobs: list[_Job], *, alone: bool) -> Iterable[Tensor | ClassMap | None]:
        units = [job.unit for job in jobs]
        if self._segmenting is not None:
            return self._segmenting.segment(units, [job.size for job in jobs], alone=alone)
        pixels = stack([unit for unit in units if isinstance(unit, Tensor)])
        return self.engine.run(pixels, alone=alone)

    def _note_pass(self, units: int, began: float, *, failed: bool) -> float:
        took = time.perf_counter() - began
        if self._on_pass is not None:
            self._on_pass(units, took, failed)
        return took


def _failure(error: BaseException) -> ServiceError:
    """What the client is told."""
    failure: ServiceError
    if is_out_of_memory(error):
        failure = OverloadedError(
            "the device has no memory for this image at the moment", reason="out_of_memory"
        )
    else:
        failure = EngineFailedError("the network failed on this image; the log has the details")
    failure.__cause__ = error
    return failure
