"""A server's process: started, waited for, and ended with all that it started."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.errors import RefusedError
from benchmarks.serving.process import family

HOST = "127.0.0.1"
POLL_S = 0.01
STOP_S = 20.0


@dataclass(frozen=True)
class Command:
    """How to start a server; `{port}` in an argument or a variable becomes the port it gets."""

    arguments: list[str]
    ready_path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass(frozen=True)
class Server:
    """A server that answers; `started_s` is the time from its process's start to readiness."""

    process: subprocess.Popen[bytes]
    port: int
    started_s: float
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def serving(command: Command, *, log: Path, timeout_s: float = 300.0) -> Iterator[Server]:
    """The server while it is needed; RefusedError when it ends or is not ready in time."""
    port = free_port()
    arguments = [argument.replace("{port}", str(port)) for argument in command.arguments]
    changes = {k: v.replace("{port}", str(port)) for k, v in command.environment.items()}
    with log.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **changes},
            cwd=command.cwd,
            start_new_session=True,  # Ctrl-C is for this program, which then ends its servers
        )
    try:
        _wait_until_ready(process, port, command.ready_path, log, began + timeout_s)
        yield Server(process, port, time.perf_counter() - began, log)
    finally:
        stop(process)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, and ends what is left of its family after a while."""
    members = family(process.pid)
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    for member in members:
        with suppress(ProcessLookupError, PermissionError):
            if member != process.pid or process.poll() is None:
                os.kill(member, signal.SIGKILL)
    process.wait()


def last_line(log: Path) -> str:
    """What a server said last, which is where errors stand, without the word for it; files beside
    the log are named without their folder, which is gone when the line is read."""
    lines = log.read_text(errors="replace").strip().splitlines()
    if not lines:
        return "it ended without a word"
    return lines[-1].strip().rpartition("error: ")[2].replace(f"{log.parent}/", "")


def _wait_until_ready(
    process: subprocess.Popen[bytes], port: int, path: str, log: Path, deadline: float
) -> None:
    while not is_ready(port, path):
        if process.poll() is not None:
            raise RefusedError(last_line(log))
        if time.perf_counter() > deadline:
            raise RefusedError(f"not ready in time; its last line: {last_line(log)}")
        time.sleep(POLL_S)
