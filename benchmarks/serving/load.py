"""The load generator: `python -m benchmarks.serving.load` reads a job and writes its figures.

It shares the server's processors, so it does next to nothing: requests are bytes made beforehand,
one thread waits for all connections, and no HTTP library stands between it and the socket. Every
answer's status, length, beginning, end and size are looked at; some are unpacked.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.serving.answer import AnswerReader
from benchmarks.serving.load_job import Job, LoadResult
from benchmarks.serving.own_process import answer
from benchmarks.serving.png import png_size, verify_png

HOST = "127.0.0.1"
VERIFY_EVERY = 50  # answers from one that is unpacked to the next; the first of each image is, too
MAX_FAILURES = 1000  # then a client gives up: the server is gone
KEPT_FAILURES = 5
RETRY_S = 0.05


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
        if now < self.begin or (not self.job.count and now > self.end):
            return
        status = str(reader.status)
        self.result.statuses[status] = self.result.statuses.get(status, 0) + 1
        self.result.seconds = now - self.begin
        if reader.status != 200:
            self.note(f"{status}: {reader.body[:200].decode(errors='replace')}")
        elif self._is_mask(request, reader.body):
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

    def _is_mask(self, request: Request, body: bytes) -> bool:
        try:
            if png_size(body) != request.size:
                raise ValueError(f"a mask of {png_size(body)}, not {request.size}")
            if request.index not in self._seen or self.answered % VERIFY_EVERY == 0:
                verify_png(body)
                self._seen.add(request.index)
                self.result.verified += 1
        except ValueError as error:
            self.note(str(error))
            return False
        return True


class Client(asyncio.Protocol):
    """One connection: sends a request, and the next as soon as the answer is complete."""

    def __init__(self, run: Run, ended: asyncio.Future[None]) -> None:
        self.run = run
        self.ended = ended
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self.reader = AnswerReader()
        self.asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        try:
            complete = self.reader.feed(data)
            if complete and self.request is not None:
                self.run.receive(self.request, self.reader, self.asked)
                self.request = None
        except ValueError as error:
            self.request = None
            self.run.fail(str(error))
            self.transport.abort()
            return
        if complete and self.reader.closes:
            self.transport.close()
        elif complete:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.request is not None:
            self.run.fail(f"the connection ended before the answer ({error})")
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        assert self.transport is not None
        self.request = self.run.take()
        if self.request is None:
            self.transport.close()
            return
        self.reader = AnswerReader()
        self.asked = time.perf_counter()
        self.transport.write(self.request.content)


async def keep_asking(run: Run) -> None:
    """One client until the run is over, on a new connection where the server closed the last."""
    loop = asyncio.get_running_loop()
    while not run.over and run.result.broken < MAX_FAILURES:
        client = Client(run, loop.create_future())
        try:
            await loop.create_connection(lambda client=client: client, HOST, run.job.port)  # type: ignore[misc]
        except OSError as error:
            run.fail(str(error))
            await asyncio.sleep(RETRY_S)
            continue
        await client.ended


def read_requests(job: Job) -> list[Request]:
    return [
        Request(index, Path(file).read_bytes(), (width, height))
        for index, (file, width, height) in enumerate(job.requests)
    ]


async def perform(job: Job) -> LoadResult:
    """Runs the job to its end or its time limit."""
    run = Run(job, read_requests(job))
    clients = [asyncio.create_task(keep_asking(run)) for _ in range(job.clients)]
    limit = job.warmup_s + job.seconds + job.timeout_s
    _, late = await asyncio.wait(clients, timeout=limit)
    for client in late:
        run.fail(f"no answer within {limit:.0f} s")
        client.cancel()
    if not job.count:
        run.result.seconds = job.seconds
    run.result.cpu_s = time.process_time()
    return run.result


def respond(question: dict[str, Any]) -> dict[str, Any]:
    requests = [tuple(entry) for entry in question["requests"]]
    return asdict(asyncio.run(perform(Job(**{**question, "requests": requests}))))


if __name__ == "__main__":
    answer(respond)
