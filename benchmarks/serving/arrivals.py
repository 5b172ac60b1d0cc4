"""An open loop: requests come at a rate, whether earlier ones are answered or not.

Clients that wait for their answer before they ask again slow down with the server, and hide how
long others would have waited. Here every latency counts from the moment a request was due.
"""

import asyncio
import time

from benchmarks.serving.answer import AnswerReader
from benchmarks.serving.load_run import HOST, Request, Run


class Visitor(asyncio.Protocol):
    """A connection that asks when it is told to, and joins the idle ones after the answer."""

    def __init__(self, run: Run, idle: "list[Visitor]", open_: "set[Visitor]") -> None:
        self.run = run
        self.idle = idle
        self.open = open_
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self.answered = asyncio.Event()
        self.reader = AnswerReader()
        self.due = 0.0

    def ask(self, request: Request, due: float) -> None:
        assert self.transport is not None
        self.request, self.due, self.reader = request, due, AnswerReader()
        self.answered.clear()
        self.transport.write(request.content)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.open.add(self)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        try:
            if not self.reader.feed(data) or self.request is None:
                return
        except ValueError as error:
            self.request = None
            self.run.fail(str(error))
            self.transport.abort()
            return
        self.run.receive(self.request, self.reader, self.due)
        self.request = None
        self.answered.set()
        if self.reader.closes:
            self.transport.close()
        else:
            self.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.answered.set()
        self.open.discard(self)
        if self in self.idle:
            self.idle.remove(self)
        if self.request is not None:
            self.run.fail(f"the connection ended before the answer ({error})")


class Arrivals:
    """`job.rate` requests a second from the run's beginning to its end."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.idle: list[Visitor] = []
        self.open: set[Visitor] = set()
        self._asked: set[asyncio.Task[None]] = set()

    async def all(self) -> None:
        """Returns when the last is answered, or late."""
        began, count = time.perf_counter(), 0
        while not self.run.over:
            due = began + count / self.run.job.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            request = self.run.take()
            if request is not None:
                self._send(request, due)
            count += 1
        await asyncio.gather(*self._asked)
        for visitor in list(self.open):
            assert visitor.transport is not None
            visitor.transport.close()

    def _send(self, request: Request, due: float) -> None:
        visitor = self.idle.pop() if self.idle else None
        task = asyncio.create_task(self._ask(visitor, request, due))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _ask(self, visitor: Visitor | None, request: Request, due: float) -> None:
        """On an idle connection or a new one, until there is an answer."""
        if visitor is None:
            loop = asyncio.get_running_loop()
            try:
                _, visitor = await loop.create_connection(
                    lambda: Visitor(self.run, self.idle, self.open), HOST, self.run.job.port
                )
            except OSError as error:
                self.run.fail(str(error))
                return
        visitor.ask(request, due)
        await visitor.answered.wait()
