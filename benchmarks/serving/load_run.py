"""One run of the load generator: what is sent, and what is thought of the answers."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle

from benchmarks.serving.answer import AnswerReader
from benchmarks.serving.load_job import Job, LoadResult
from benchmarks.serving.png import png_size, verify_png

HOST = "127.0.0.1"
VERIFY_EVERY = 50  # answers from one that is unpacked to the next; the first of each image is, too
KEPT_FAILURES = 5


@dataclass(frozen=True)
class Request:
    """Bytes to send, and the size of the mask that must come back."""

    index: int
    content: bytes
    size: tuple[int, int]


@dataclass
class Run:
    """What all clients of a job share. `begin` and `end` are read off the clock: figures count
    between them, and nothing is sent after the end."""

    job: Job
    requests: list[Request]
    result: LoadResult = field(default_factory=LoadResult)
    begin: float = 0.0
    end: float = 0.0
    sent: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        self._turn: Iterator[Request] = cycle(self.requests)
        self._seen: set[int] = set()
        self.begin = time.perf_counter() + self.job.warmup_s
        self.end = self.begin + self.job.seconds

    @property
    def over(self) -> bool:
        if self.job.count:
            return self.sent >= self.job.count
        return time.perf_counter() >= self.end

    def take(self) -> Request | None:
        """The next request to send; None when enough were sent."""
        if self.over:
            return None
        if not self.job.count or time.perf_counter() >= self.begin:
            self.sent += 1
        return next(self._turn)

    def receive(self, request: Request, reader: AnswerReader, asked: float) -> None:
        now = time.perf_counter()
        self.answered += 1
        is_late = not self.job.count and not self.job.rate and now > self.end
        if now < self.begin or is_late:
            return
        status = str(reader.status)
        self.result.statuses[status] = self.result.statuses.get(status, 0) + 1
        self.result.seconds = now - self.begin
        if reader.status != 200:
            self.note(f"{status}: {reader.body[:200].decode(errors='replace')}")
        elif self._is_good(request, reader.body):
            self.result.latencies_ms.append((now - asked) * 1000)
        else:
            self.result.broken += 1

    def fail(self, reason: str) -> None:
        """A request that got no answer at all."""
        self.result.broken += 1
        self.note(reason)

    def note(self, reason: str) -> None:
        if len(self.result.failures) < KEPT_FAILURES:
            self.result.failures.append(reason)

    def _is_good(self, request: Request, body: bytes) -> bool:
        is_looked_at = request.index not in self._seen or self.answered % VERIFY_EVERY == 0
        try:
            for mask in [body] if self.job.images == 1 else masks_of(body, self.job.images):
                if png_size(mask) != request.size:
                    raise ValueError(f"a mask of {png_size(mask)}, not {request.size}")
                if is_looked_at:
                    verify_png(mask)
        except ValueError as error:
            self.note(str(error))
            return False
        if is_looked_at:
            self._seen.add(request.index)
            self.result.verified += 1
        return True


def masks_of(body: bytes, count: int) -> list[bytes]:
    """The PNGs in the answer to so many images; ValueError where one of them has none."""
    results = json.loads(body)["results"]
    failed = [result for result in results if result["status"] != 200]
    if failed:
        raise ValueError(f"{failed[0]['status']}: {failed[0]['error']['detail']}")
    if len(results) != count:
        raise ValueError(f"{len(results)} masks for {count} images")
    return [base64.b64decode(result["result"]["mask"]["data"]) for result in results]
