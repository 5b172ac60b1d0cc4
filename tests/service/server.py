"""`python -m service` as users run it: a process, a port, a log."""

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.service.clients import ROOT

TIMEOUT_S = 180  # for a start or a stop on a busy machine


@dataclass
class Server:
    """A running service; `log` grows as it writes to its standard error."""

    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)
    _told: threading.Event = field(default_factory=threading.Event)
    _reader: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
            if "-o mask.png" in line:  # the last of the start-up lines
                self._told.set()
        self._told.set()

    def wait_until_listening(self) -> None:
        assert self._told.wait(TIMEOUT_S), self.log
        assert self.process.poll() is None, "\n".join(self.log)

    @property
    def url(self) -> str:
        found = [re.search(r"listening on (http://\S+)", line) for line in self.log]
        return next(match[1] for match in found if match)

    def connect(self) -> socket.socket:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return socket.create_connection((parts.hostname, parts.port), timeout=30)

    def raw_get(self, path: str) -> httpx.Response:
        """The path as it stands: other clients would resolve ".." before they send it."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
        finally:
            connection.close()

    def exchange(self, *parts: bytes, wait_s: float = 20) -> bytes:
        """Sends the parts and returns all that comes back until the server closes."""
        with self.connect() as connection:
            connection.settimeout(wait_s)
            for part in parts:
                connection.sendall(part)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def stop(self, signal_number: int) -> int:
        """Sends the signal to this process alone and returns its exit status."""
        self.process.send_signal(signal_number)
        return self.finish()

    def finish(self) -> int:
        try:
            status = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert self._reader is not None
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status


def launch(*arguments: str | Path, **environment: str) -> Server:
    """Starts the service in its own process, with nothing but the given SERVICE_ variables."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SERVICE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        env={**inherited, "SERVICE_LOG_FORMAT": "text", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    return Server(process)
