"""The load generator: `python -m benchmarks.serving.load` reads a job and writes its figures.

It shares the server's processors, so it does next to nothing: requests are bytes made beforehand,
one thread waits for all connections, and no HTTP library stands between it and the socket. Every
answer's status, length, beginning, end and size are looked at; some are unpacked.
"""

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.serving.answer import AnswerReader
from benchmarks.serving.arrivals import Arrivals
from benchmarks.serving.load_job import Job, LoadResult
from benchmarks.serving.load_run import HOST, Request, Run
from benchmarks.serving.own_process import answer

MAX_FAILURES = 1000  # then a client gives up: the server is gone
RETRY_S = 0.05


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
    run, before = Run(job, read_requests(job)), time.process_time()
    if job.rate:
        clients = [asyncio.create_task(Arrivals(run).all())]
    else:
        clients = [asyncio.create_task(keep_asking(run)) for _ in range(job.clients)]
    limit = job.warmup_s + job.seconds + job.timeout_s
    _, late = await asyncio.wait(clients, timeout=limit)
    for client in late:
        run.fail(f"no answer within {limit:.0f} s")
        client.cancel()
    if not job.count:
        run.result.seconds = job.seconds
    run.result.cpu_s = time.process_time() - before
    return run.result


def respond(question: dict[str, Any]) -> dict[str, Any]:
    requests = [tuple(entry) for entry in question["requests"]]
    return asdict(asyncio.run(perform(Job(**{**question, "requests": requests}))))


if __name__ == "__main__":
    answer(respond)
