"""The load generator against a small server on this machine, which answers as it is told."""

import asyncio
import base64
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from benchmarks.serving.load import perform
from benchmarks.serving.load_job import Job, LoadResult
from benchmarks.serving.request import Photograph, batch_bytes, request_bytes

SIZE = (20, 10)


def png(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("P", size).save(stream, format="PNG")
    return stream.getvalue()


@contextmanager
def answering(body: bytes, *, status: int = 200, close_after: bool = False) -> Iterator[int]:
    """A server's port; every request is read whole and answered alike."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        seen: bytes = b""

        def do_POST(self) -> None:
            received = self.rfile.read(int(self.headers["Content-Length"]))
            assert b"the image" in received
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if close_after:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    image = tmp_path / "a.jpg"
    image.write_bytes(b"the image")
    file = tmp_path / "request.http"
    photograph = Photograph(image, "image/jpeg", *SIZE)
    file.write_bytes(request_bytes(photograph, "/segment", form="multipart"))
    return file


def load(port: int, file: Path, *, clients: int = 3, count: int = 20) -> LoadResult:
    job = Job(port, [(str(file), *SIZE)] * 2, clients, count=count, timeout_s=10)
    return asyncio.run(perform(job))


@pytest.mark.parametrize("close_after", [False, True])
def test_every_request_is_counted_once(request_file: Path, close_after: bool) -> None:
    with answering(png(SIZE), close_after=close_after) as port:
        result = load(port, request_file)
    assert (result.statuses, result.failed, result.failures) == ({"200": 20}, 0, [])
    assert len(result.latencies_ms) == 20
    assert result.verified >= 2  # the first answer to each of the two requests
    assert result.per_second == pytest.approx(20 / result.seconds)


def test_a_run_of_seconds_ends_by_itself(request_file: Path) -> None:
    with answering(png(SIZE)) as port:
        job = Job(port, [(str(request_file), *SIZE)], 2, warmup_s=0.05, seconds=0.2, timeout_s=10)
        result = asyncio.run(perform(job))
    assert result.seconds == 0.2
    assert result.latencies_ms
    assert result.failed == 0


@pytest.mark.parametrize(
    ("body", "complaint"),
    [(png((10, 20)), r"a mask of \(10, 20\)"), (png(SIZE)[:-4], "without its end")],
)
def test_an_answer_that_is_no_mask_of_the_image_fails(
    request_file: Path, body: bytes, complaint: str
) -> None:
    with answering(body) as port:
        result = load(port, request_file)
    assert (result.broken, result.latencies_ms) == (20, [])
    assert len(result.failures) == 5  # not one line for each
    assert re.search(complaint, result.failures[0])


def test_a_refusal_is_counted_by_its_status(request_file: Path) -> None:
    with answering(b"busy", status=503) as port:
        result = load(port, request_file)
    assert (result.statuses, result.failed, result.latencies_ms) == ({"503": 20}, 20, [])
    assert result.failures[0] == "503: busy"


def test_a_server_that_is_not_there_fails_the_job(
    request_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.serving.load.MAX_FAILURES", 3)
    with answering(b"") as port:
        pass
    result = load(port, request_file, clients=1)
    assert (result.broken, result.latencies_ms) == (3, [])


@pytest.mark.parametrize("form", ["raw", "multipart"])
def test_a_request_says_how_long_it_is(tmp_path: Path, form: str) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(b"content")
    made = request_bytes(Photograph(image, "image/jpeg", 1, 1), "/segment", form=form)  # type: ignore[arg-type]
    head, _, body = made.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert head.startswith(b"POST /segment HTTP/1.1\r\n")
    assert b"content" in body


class TestSeveralImagesARequest:
    @pytest.fixture
    def batch_file(self, tmp_path: Path) -> Path:
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).write_bytes(b"the image " + name.encode())
        images = [Photograph(tmp_path / name, "image/jpeg", *SIZE) for name in ("a.jpg", "b.jpg")]
        file = tmp_path / "batch.http"
        file.write_bytes(batch_bytes(images, "/segment/batch"))
        return file

    def ask(self, file: Path, results: list[object]) -> LoadResult:
        with answering(json.dumps({"results": results}).encode()) as port:
            job = Job(port, [(str(file), *SIZE)], 2, count=6, timeout_s=10, images=2)
            return asyncio.run(perform(job))

    def result(self, size: tuple[int, int] = SIZE) -> dict[str, object]:
        data = base64.b64encode(png(size)).decode()
        return {"status": 200, "result": {"mask": {"data": data}}}

    def test_are_all_sent(self, batch_file: Path) -> None:
        head, _, body = batch_file.read_bytes().partition(b"\r\n\r\n")
        assert head.startswith(b"POST /segment/batch HTTP/1.1\r\n")
        assert b"Accept: application/json" in head
        assert f"Content-Length: {len(body)}".encode() in head
        assert body.count(b'name="file"') == 2
        assert b"the image a.jpg" in body
        assert b"the image b.jpg" in body

    def test_are_one_answer(self, batch_file: Path) -> None:
        result = self.ask(batch_file, [self.result(), self.result()])
        assert (len(result.latencies_ms), result.failed) == (6, 0)
        assert result.verified >= 1

    @pytest.mark.parametrize(
        ("second", "complaint"),
        [
            ({"status": 400, "error": {"detail": "not an image"}}, "400: not an image"),
            (None, "1 masks for 2 images"),
            ((10, 20), r"a mask of \(10, 20\)"),
        ],
    )
    def test_one_without_a_mask_fails_it(
        self, second: object, complaint: str, batch_file: Path
    ) -> None:
        results: list[object] = [self.result()]
        if second is not None:
            results.append(self.result(second) if isinstance(second, tuple) else second)
        result = self.ask(batch_file, results)
        assert (result.broken, result.latencies_ms) == (6, [])
        assert re.search(complaint, result.failures[0])


def test_at_a_rate_every_request_is_sent_and_answered_whatever_the_server_takes(
    request_file: Path,
) -> None:
    with answering(png(SIZE)) as port:
        result = asyncio.run(
            perform(Job(port, [(str(request_file), *SIZE)], clients=0, seconds=1.0, rate=50))
        )
    assert result.statuses == {"200": 50}
    assert result.failed == 0
    assert 45 <= result.per_second <= 50


def test_at_a_rate_refusals_and_ended_connections_are_counted(request_file: Path) -> None:
    with answering(b"busy", status=503, close_after=True) as port:
        result = asyncio.run(
            perform(Job(port, [(str(request_file), *SIZE)], clients=0, seconds=0.5, rate=40))
        )
    assert result.statuses == {"503": 20}
    assert result.broken == 0


def test_results_of_one_after_the_other_are_joined() -> None:
    first = LoadResult(1.0, 0.5, [10.0, 20.0], {"200": 2}, 0, 1, [])
    second = LoadResult(2.0, 0.25, [30.0], {"200": 1, "503": 2}, 1, 1, ["503: full"])
    joined = LoadResult.joined([first, second])
    assert joined == LoadResult(
        3.0, 0.75, [10.0, 20.0, 30.0], {"200": 3, "503": 2}, 1, 2, ["503: full"]
    )
    assert joined.failed == 3
    assert first.latencies_ms == [10.0, 20.0]
