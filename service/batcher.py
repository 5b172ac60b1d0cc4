"""One thread owns the device and takes whatever is queued when the device is free.

Nothing waits on a timer: a request alone is run at once, and under load the queue that builds up
during one pass is the next batch.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from models.upsample import Segmentation
from service.engine import Unit
from service.errors import EngineFailedError, OverloadedError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """A unit's result, with how long it queued and computed and how many units shared the pass."""

    segmentation: Segmentation
    queue_s: float
    device_s: float
    batch_size: int


@dataclass(eq=False)
class _Job:
    unit: Unit
    future: Future[Answer] = field(default_factory=Future)
    queued: float = field(default_factory=time.perf_counter)


class Batcher:
    """`submit` from any thread; `close` answers what was accepted, then ends the thread."""

    def __init__(
        self,
        run: Callable[[list[Unit]], list[Segmentation]],
        *,
        max_batch: int,
        max_queue: int,
    ) -> None:
        self._run_units = run
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, unit: Unit) -> Future[Answer]:
        """Raises OverloadedError when the queue is full or the service is stopping."""
        job = _Job(unit)
        with self._wake:
            if self._closing:
                raise OverloadedError("the service is stopping")
            if len(self._jobs) >= self._max_queue:
                raise OverloadedError(f"{len(self._jobs)} images are waiting already")
            self._jobs.append(job)
            self._wake.notify()
        job.future.add_done_callback(self._drop_cancelled)
        return job.future

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """False at the end. A call of its own: no image is kept while the next is waited for."""
        batch = self._take()
        live = [job for job in batch if job.future.set_running_or_notify_cancel()]
        if live:
            self._compute(live)
        return bool(batch)

    def _drop_cancelled(self, future: Future[Answer]) -> None:
        """A client that hung up has cancelled its future: neither its place nor its pixels are
        kept in the queue."""
        if not future.cancelled():
            return
        with self._wake:
            for job in [job for job in self._jobs if job.future is future]:
                self._jobs.remove(job)

    def _take(self) -> list[_Job]:
        """Waits for work; empty only when closing and nothing is left."""
        with self._wake:
            self._wake.wait_for(lambda: self._jobs or self._closing)
            count = min(len(self._jobs), self._max_batch)
            return [self._jobs.popleft() for _ in range(count)]

    def _compute(self, jobs: list[_Job]) -> None:
        began = time.perf_counter()
        try:
            results = self._run_units([job.unit for job in jobs])
        except Exception as error:  # noqa: BLE001 - whatever it was, the thread must live on
            self._fail_or_retry(jobs, error)
            return
        took = time.perf_counter() - began
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(Answer(result, began - job.queued, took, len(jobs)))

    def _fail_or_retry(self, jobs: list[_Job], error: Exception) -> None:
        """One bad image must not fail its batch-mates, so each is tried alone."""
        if len(jobs) > 1:
            logger.warning("a batch of %d failed (%s); running each alone", len(jobs), error)
            for job in jobs:
                self._compute([job])
            return
        logger.error("the network failed on an image", exc_info=error)
        failure = EngineFailedError("the network failed on this image; the log has the details")
        failure.__cause__ = error.with_traceback(None)  # its frames would keep the image alive
        jobs[0].future.set_exception(failure)
