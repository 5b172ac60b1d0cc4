"""`python -m service`: starting, refusing to start, serving over a real socket, stopping."""

import base64
import gc
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from models import save_checkpoint
from service.__main__ import main
from service.security.command import run_keys
from tests.networks import manifest_for, small_network
from tests.service.clients import ADMIN_KEYS, AS_ADMIN, GOOD, assert_problem
from tests.service.colours import (
    decoded,
    encoded,
    expected_answer,
    picture_of,
    save_colours,
)
from tests.service.server import Server, launch


def empty(folder: Path) -> list[str]:
    for path in folder.iterdir():
        path.unlink()
    return []


def several(folder: Path) -> list[str]:
    save_colours(folder / "other.pth")
    return []


def corrupt(folder: Path) -> list[str]:
    path = folder / "colours.pth"
    path.write_bytes(path.read_bytes()[:1000])
    return []


def corrupt_bare(folder: Path) -> list[str]:
    (folder / "colours.json").unlink()
    return corrupt(folder)


def one_channel(folder: Path) -> list[str]:
    network = small_network("unet", in_channels=1)
    save_checkpoint(folder / "grey.pth", network.state_dict(), manifest_for(network, "unet"))
    return ["--model", "grey"]


def no_classes(folder: Path) -> list[str]:
    beside = folder / "colours.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "classes": []}))
    return []


def impossible_width(folder: Path) -> list[str]:
    beside = folder / "colours.json"
    arguments = {"num_classes": 4, "base_channels": 10**12, "in_channels": 3}
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "arguments": arguments}))
    return []


Prepare = Callable[[Path], list[str]]

REFUSED: dict[str, tuple[Prepare, list[str]]] = {
    "unknown model": (lambda _: ["--model", "best"], ["--model best", "colours"]),
    "path as model": (lambda _: ["--model", "../colours"], ["--model ../colours"]),
    "empty folder": (empty, ["--checkpoints", "no checkpoint"]),
    "several checkpoints": (several, ["--checkpoints", "colours, other", "--model"]),
    "corrupt checkpoint": (corrupt, ["--model colours", "sha256"]),
    "corrupt bare checkpoint": (corrupt_bare, ["--model colours", "colours.pth"]),
    "one channel": (one_channel, ["--model grey", "1 channels"]),
    "no classes": (no_classes, ["--model colours", "classes"]),
    "impossible width": (impossible_width, ["--model colours"]),
    "large port": (lambda _: ["--port", "70000"], ["--port", "70000"]),
    "port in letters": (lambda _: ["--port", "http"], ["--port", "http"]),
    "unknown device": (lambda _: ["--device", "abacus"], ["--device", "abacus"]),
    "unknown precision": (lambda _: ["--precision", "int3"], ["--precision", "int3"]),
    "no queue": (lambda _: ["--max-queue", "0"], ["--max-queue", "0"]),
    "open to others": (lambda _: ["--host", "0.0.0.0"], ["--host 0.0.0.0", "--insecure", "key"]),
    "no key file": (lambda _: ["--api-key-file", "none.txt"], ["--api-key-file none.txt"]),
    "no origin": (lambda _: ["--cors-origin", "a.example"], ["--cors-origin", "a.example"]),
    "no hash": (lambda _: ["--allowed-sha256", "abc"], ["--allowed-sha256 abc"]),
    "unknown log level": (lambda _: ["--log-level", "loud"], ["--log-level", "loud"]),
}


def status_of(*arguments: str | Path, patch: pytest.MonkeyPatch) -> int | str | None:
    """The exit status of `python -m service ARGUMENTS`, in this process."""
    patch.setattr(sys, "argv", ["service", *map(str, arguments)])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return main()
    except SystemExit as ended:
        return ended.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        gc.unfreeze()


class TestRefusedStart:
    @pytest.mark.parametrize("case", REFUSED)
    def test_the_reason_is_one_line_that_names_option_and_value(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        case: str,
    ) -> None:
        prepare, named = REFUSED[case]
        options = ["--port", "0", *prepare(folder)]
        assert status_of("--checkpoints", folder, *options, patch=monkeypatch) == 2
        written = capsys.readouterr()
        assert written.out == ""
        lines = written.err.splitlines()
        assert len(lines) == 1, written.err
        assert lines[0].startswith("error: ")
        for word in named:
            assert word in lines[0]

    def test_a_bad_environment_variable_is_named(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("SERVICE_PORT", "http")
        assert status_of("--checkpoints", folder, patch=monkeypatch) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "port" in line.lower()
        assert "http" in line

    def test_an_unknown_option_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert status_of("--colour", "red", patch=monkeypatch) == 2
        assert "--colour" in capsys.readouterr().err.splitlines()[-1]

    def test_the_process_ends_with_status_2_and_no_traceback(self, served_folder: Path) -> None:
        server = launch("--checkpoints", served_folder, "--model", "best")
        assert server.finish() == 2
        assert "--model best" in server.log[-1]
        assert "Traceback" not in "\n".join(server.log)

    def test_a_port_that_is_taken_is_named(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            options = ["--port", port, "--device", "cpu"]
            status = status_of("--checkpoints", folder, *options, patch=monkeypatch)
        assert status not in (0, None)
        assert port in caplog.text
        assert "Traceback" not in caplog.text

    def test_help_lists_the_options(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert status_of("--help", patch=monkeypatch) == 0
        text = capsys.readouterr().out
        for option in ("--checkpoints", "--model", "--host", "--port", "--device", "--precision"):
            assert option in text


def test_the_garbage_collector_leaves_alone_what_the_start_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def serve(app: object, settings: object) -> bool:
        kept.append(gc.get_freeze_count())
        return True

    monkeypatch.setattr("service.__main__.serve", serve)
    options = ["--port", "0", "--device", "cpu"]
    assert status_of("--checkpoints", folder, *options, patch=monkeypatch) == 0
    assert kept[0] > 100_000


class TestServing:
    def test_the_environment_alone_sets_everything_up(self, server: Server) -> None:
        port = int(server.url.rpartition(":")[2])
        assert port != 0
        assert httpx.get(f"{server.url}/readyz", timeout=30).json()["model"] == "colours"

    def test_the_printed_command_works_as_printed(self, server: Server, tmp_path: Path) -> None:
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        lines = [line.partition("  curl ")[2] for line in server.log if "  curl " in line]
        assert len(lines) == 2
        for line in lines:
            command = ["curl", "--silent", "--show-error", "--max-time", "60", *shlex.split(line)]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout == b""
        mask = decoded((tmp_path / "mask.png").read_bytes())
        first = ["curl", "--silent", "--max-time", "60", *shlex.split(lines[0])]
        answer = json.loads(subprocess.run(first, capture_output=True, check=True).stdout)
        assert mask.shape == (answer["height"], answer["width"])
        assert sum(entry["pixels"] for entry in answer["classes"]) == mask.size

    def test_many_clients_at_once_are_answered_rightly(self, server: Server) -> None:
        pictures = [picture_of(20 + 3 * seed, 90 - 2 * seed, seed=seed) for seed in range(32)]

        def answered(client: httpx.Client, seed: int) -> bool:
            files = {"file": ("p.png", encoded(pictures[seed]))}
            response = client.post(f"{server.url}/segment", files=files, timeout=60)
            mask = decoded(base64.b64decode(response.json()["mask"]["data"]))
            return expected_answer(pictures[seed]).agrees(mask)

        with httpx.Client() as client, ThreadPoolExecutor(16) as threads:
            assert all(threads.map(lambda seed: answered(client, seed), range(32)))

    def test_an_upload_of_unknown_length_is_read(self, server: Server) -> None:
        def chunks() -> Iterator[bytes]:
            for start in range(0, len(GOOD), 7):
                yield GOOD[start : start + 7]

        response = httpx.post(f"{server.url}/segment", content=chunks(), timeout=30)
        assert response.status_code == 200
        assert "content-length" not in response.request.headers

    def test_a_form_of_unknown_length_is_read(self, server: Server) -> None:
        form = httpx.Request("POST", server.url, files={"file": ("p.png", GOOD)})
        body, kind = form.read(), form.headers["content-type"]
        halves = (body[: len(body) // 2], body[len(body) // 2 :])
        response = httpx.post(
            f"{server.url}/segment",
            content=iter(halves),
            headers={"Content-Type": kind},
            timeout=30,
        )
        assert response.status_code == 200

    def test_a_length_that_promises_too_much_is_refused_at_once(self, server: Server) -> None:
        """What follows the refusal is not taken for the body's beginning."""
        answer = server.exchange(
            b"POST /segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: 300000\r\n\r\n" + bytes(300_000)
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413")
        assert b"application/problem+json" in head
        assert "limit" in json.loads(body)["detail"]

    def test_a_length_that_promises_too_little_cuts_the_image_off(self, server: Server) -> None:
        answer = server.exchange(
            b"POST /segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: 40\r\n\r\n" + GOOD
        )
        assert answer.startswith(b"HTTP/1.1 400")

    @pytest.mark.parametrize("length", [b"-5", b"abc", b"1e3", b"9" * 5000])
    def test_a_length_that_is_no_number_is_refused(self, server: Server, length: bytes) -> None:
        answer = server.exchange(
            b"POST /segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: " + length + b"\r\n\r\n" + GOOD
        )
        assert re.match(rb"HTTP/1\.1 4\d\d", answer), answer[:100]

    def test_a_client_that_asks_before_sending_is_told_to_go_on(self, server: Server) -> None:
        answer = server.exchange(
            b"POST /segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GOOD),
            GOOD,
        )
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")

    def test_a_client_that_asks_before_sending_too_much_is_told_no(self, server: Server) -> None:
        """Without having sent a byte of the body, and without the server waiting for one."""
        answer = server.exchange(
            b"POST /segment HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nContent-Length: 300000\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"100 Continue" not in answer

    @pytest.mark.parametrize("path", [b"/segment?model=nobody", b"/segment?output=gif"])
    def test_a_refusal_before_reading_reaches_a_client_that_still_sends(
        self, server: Server, path: bytes
    ) -> None:
        head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        half = bytes(40_000)
        answer = server.exchange(head + b"Content-Length: 80000\r\n\r\n", half, half)
        assert re.match(rb"HTTP/1\.1 4(04|22)", answer), answer[:100]

    def test_two_requests_on_one_connection_are_kept_apart(self, server: Server) -> None:
        first = b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
        last = first.replace(b"Host: x", b"Host: x\r\nConnection: close")
        answer = server.exchange(first + GOOD + last + GOOD)
        assert answer.count(b"HTTP/1.1 200") == 2

    def test_a_refusal_leaves_the_connection_in_order(self, server: Server) -> None:
        large = b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
        last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = server.exchange(large, bytes(300_000), last)
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
        assert statuses in ([b"413", b"200"], [b"413"])
        if statuses == [b"413"]:
            assert b"connection: close" in answer.lower()

    def test_a_client_that_hangs_up_disturbs_nobody(self, server: Server) -> None:
        for _ in range(5):
            with server.connect() as connection:
                connection.sendall(
                    b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nhalf"
                )
        response = httpx.post(f"{server.url}/segment", content=GOOD, timeout=30)
        assert response.status_code == 200
        assert "Traceback" not in "\n".join(server.log)

    def test_a_request_id_with_control_characters_is_replaced(self, server: Server) -> None:
        for given in (b"a\tb", b"\x80\xff", b"x" * 5000):
            answer = server.exchange(
                b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"X-Request-ID: " + given + b"\r\n\r\n"
            )
            found = re.search(rb"(?i)x-request-id: ([^\r]*)\r\n", answer)
            assert found is not None
            assert re.fullmatch(rb"[0-9a-f]{32}", found[1])

    def test_errors_over_the_wire_are_problems(self, server: Server) -> None:
        assert_problem(httpx.get(f"{server.url}/nowhere", timeout=30), 404, "/nowhere")


class TestGuarded:
    def test_a_key_made_by_the_command_opens_a_service_on_every_address(
        self, served_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "keys.txt"
        assert run_keys(["new", "--name", "robot", "--file", str(file)]) == 0
        key = capsys.readouterr().out.strip()
        options = ("--host", "0.0.0.0", "--port", "0", "--device", "cpu", "--engine", "torch")
        server = launch("--checkpoints", served_folder, "--api-key-file", file, *options)
        try:
            server.wait_until_listening()
            url = f"http://127.0.0.1:{server.url.rpartition(':')[2]}/models"
            assert_problem(httpx.get(url, timeout=30), 401)
            headers = {"X-API-Key": key}
            answer = httpx.get(url, headers=headers, timeout=30)
            assert answer.status_code == 200
            assert "server" not in answer.headers
            assert run_keys(["revoke", "--name", "robot", "--file", str(file)]) == 0
            assert_problem(httpx.get(url, headers=headers, timeout=30), 401)
        finally:
            server.stop(signal.SIGTERM)
        log = "\n".join(server.log)
        assert 'curl -H "Authorization: Bearer $KEY" -F' in log
        assert key not in log


class TestStopping:
    def test_sigterm_stops_it_once_what_was_accepted_is_answered(self, served_folder: Path) -> None:
        server = launch("--checkpoints", served_folder, "--port", "0", "--device", "cpu")
        server.wait_until_listening()
        with server.connect() as connection:
            head = b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
            connection.sendall(head + GOOD[:-1])
            time.sleep(0.3)  # the server is reading the body now
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(GOOD[-1:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        status = server.finish()
        assert answer.startswith(b"HTTP/1.1 200")
        assert "Traceback" not in "\n".join(server.log)
        assert status == 0

    def test_sigterm_while_a_model_is_loaded_stops_it_as_well(self, folder: Path) -> None:
        """The load is given up at its next step, and whoever asked for it is told."""
        save_colours(folder / "large.pth", height=512, width=512)  # a second or two
        options = ["--model", "colours", "--port", "0", "--device", "cpu", "--engine", "torch"]
        server = launch("--checkpoints", folder, *options, SERVICE_API_KEYS=ADMIN_KEYS)
        server.wait_until_listening()
        with ThreadPoolExecutor(1) as beside:
            url = f"{server.url}/models/large/load"
            load = beside.submit(httpx.post, url, headers=AS_ADMIN, timeout=60)
            time.sleep(0.5)
            status = server.stop(signal.SIGTERM)
            assert load.result().status_code in (201, 503)
        assert "Traceback" not in "\n".join(server.log)
        assert status == 0

    def test_ctrl_c_stops_it_without_a_traceback(self, served_folder: Path) -> None:
        server = launch("--checkpoints", served_folder, "--port", "0", "--device", "cpu")
        server.wait_until_listening()
        assert httpx.post(f"{server.url}/segment", content=GOOD, timeout=60).status_code == 200
        status = server.stop(signal.SIGINT)
        assert "Traceback" not in "\n".join(server.log)
        assert status == 0
