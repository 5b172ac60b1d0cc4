"""The real server around an app, in a thread: for what a device is made to do, and for sockets."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from service.app import create_app
from service.server import Server
from tests.service.clients import GOOD, settings_for

HEAD = b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GOOD)


class Running:
    """Listens on a port of 127.0.0.1."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port: int = server.servers[0].sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def post(self, content: bytes = GOOD) -> httpx.Response:
        return httpx.post(f"{self.url}/segment", content=content, timeout=30)

    def connect(self, sent: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(sent)
        return connection


def until(condition: Callable[[], Any], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def running(folder: Path, **changes: Any) -> Iterator[Running]:
    settings = settings_for(folder, port=0, **changes)
    server = Server(create_app(settings), settings)
    listening = threading.Event()
    original = server.startup

    async def startup(sockets: list[object] | None = None) -> None:
        await original(sockets)
        listening.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert listening.wait(60)
        yield Running(server)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def read_to_end(connection: socket.socket) -> bytes:
    """What still comes until the server closes, also where it does so without a word."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received
