"""What signals do to the process: it stops in order, in time, and loses nothing it accepted."""

import json
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.server import Server, serve
from tests.service.clients import GOOD, assert_problem, settings_for
from tests.service.colours import save_colours
from tests.service.running import HEAD, read_to_end, running, until
from tests.service.server import launch

OPTIONS = ("--port", "0", "--device", "cpu", "--engine", "torch", "--threads", "1")


def test_sigterm_under_load_answers_what_was_accepted(folder: Path) -> None:
    """Through uploads that are on their way: each of them has begun."""
    server = launch("--checkpoints", folder, *OPTIONS, "--drain-timeout-s", "60")
    server.wait_until_listening()
    begun = [server.connect() for _ in range(8)]
    for connection in begun:
        connection.sendall(HEAD.replace(b"x", b"x\r\nConnection: close", 1) + GOOD[:-1])
    assert httpx.get(f"{server.url}/readyz", timeout=30).status_code == 200
    until(lambda: _in_flight(server.url) == len(begun) + 1)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(f"{server.url}/readyz", timeout=30).status_code == 503)
    refused = httpx.post(f"{server.url}/segment", content=GOOD, timeout=30)
    assert_problem(refused, 503, "stopping")
    assert int(refused.headers["retry-after"]) >= 1
    for connection in begun:
        connection.sendall(GOOD[-1:])
        answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["model"] == "colours"
        connection.close()
    assert server.finish() == 0
    assert "Traceback" not in "\n".join(server.log)


def test_who_does_not_finish_in_time_does_not_keep_it(folder: Path) -> None:
    server = launch("--checkpoints", folder, *OPTIONS, "--drain-timeout-s", "2")
    server.wait_until_listening()
    with server.connect() as connection:
        connection.sendall(HEAD + GOOD[:-1])
        until(lambda: _in_flight(server.url) == 2)
        began = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 30
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"stopping" in answer
    [line] = [line for line in server.log if "route=/segment " in line]
    assert "status=503" in line
    assert "Traceback" not in "\n".join(server.log)


def test_a_stop_that_gets_stuck_ends_with_status_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr("service.server._end", lambda limit_s: ended.set())
    with running(folder, drain_timeout_s=0.2) as found:
        found.server.handle_exit(signal.SIGTERM, None)
        assert ended.wait(20)


def test_sigterm_just_before_it_listens_is_not_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server._end", lambda limit_s: None)
    monkeypatch.setattr(Server, "run", lambda server: signal.raise_signal(signal.SIGTERM))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    settings = settings_for(folder, port=0)
    app = create_app(settings)
    try:
        assert not serve(app, settings)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert app.state.service.phase == "stopping"


def test_sigterm_while_it_warms_up_ends_it_in_order(folder: Path) -> None:
    save_colours(folder / "large.pth", height=512, width=512)  # a second or two
    server = launch("--checkpoints", folder, "--model", "large", *OPTIONS)
    until(lambda: any("Waiting for application" in line for line in server.log), seconds=60)
    assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in "\n".join(server.log)


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    server = launch("--checkpoints", folder, *OPTIONS)
    server.wait_until_listening()
    with server.connect() as connection:
        connection.sendall(HEAD + GOOD[:-1])
        until(lambda: _in_flight(server.url) == 2)
        server.process.send_signal(signal.SIGINT)
        until(lambda: httpx.get(f"{server.url}/readyz", timeout=30).status_code == 503)
        began = time.monotonic()
        server.stop(signal.SIGINT)
        assert time.monotonic() - began < 10


def test_killed_and_started_again_it_serves_on_the_same_port(folder: Path) -> None:
    first = launch("--checkpoints", folder, *OPTIONS)
    first.wait_until_listening()
    port = first.url.rpartition(":")[2]
    with first.connect() as connection:
        connection.sendall(HEAD + GOOD[:-1])
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    again = launch("--checkpoints", folder, *OPTIONS[2:], "--port", port)
    again.wait_until_listening()
    assert httpx.post(f"{again.url}/segment", content=GOOD, timeout=30).status_code == 200
    assert again.stop(signal.SIGTERM) == 0


def _in_flight(url: str) -> float:
    for line in httpx.get(f"{url}/metrics", timeout=30).text.splitlines():
        if line.startswith("maskwright_requests_in_flight "):
            return float(line.rpartition(" ")[2])
    raise AssertionError("no such metric")
