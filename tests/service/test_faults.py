"""What breaks while the service runs, and what it does then."""

import errno
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import ImageFile
from torch import Tensor

from service.engines.torch_engine import TorchEngine
from service.upload import Header, Upload, decode
from tests.service.clients import GOOD, assert_problem
from tests.service.colours import PAINT, encoded, plain, save_colours
from tests.service.running import HEAD, Running, running, until
from tests.service.spy import Spy


@pytest.fixture
def beside() -> Any:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def hold_decoders(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Decoders wait in the middle of an image until the second event; the first says that one
    does."""
    busy, free = threading.Event(), threading.Event()

    def slowly(upload: Upload, header: Header) -> Tensor:
        busy.set()
        assert free.wait(60)
        return decode(upload, header)

    monkeypatch.setattr("service.segmenter.decode", slowly)
    return busy, free


class TestEngine:
    def test_what_would_end_a_thread_ends_one_answer(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = TorchEngine.run

        def run(engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
            if any(unit[:, 0, 0].tolist() == PAINT[3].tolist() for unit in pixels):
                raise SystemExit("a runtime that thinks that it is alone")
            return original(engine, pixels, alone=alone)

        monkeypatch.setattr(TorchEngine, "run", run)
        with running(folder) as found:
            for _ in range(3):
                refused = found.post(encoded(plain(3, 12, 10)))
                assert "alone" not in assert_problem(refused, 500)["detail"]
                assert found.post().status_code == 200
            assert found.get("/healthz").status_code == 200

    def test_no_memory_is_said_and_passes_become_smaller(
        self, folder: Path, spy: Spy, beside: ThreadPoolExecutor
    ) -> None:
        original = spy.original

        def run(engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
            if len(pixels) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(engine, pixels, alone=alone)

        spy.original = run
        with running(folder) as found:
            spy.free.clear()
            posts = [beside.submit(found.post) for _ in range(5)]
            until(lambda: found.server._state.admission.inside == 5)
            spy.free.set()
            assert [post.result().status_code for post in posts] == [200] * 5
            assert found.server._state.registry.active.batcher.capacity == 1

    def test_a_device_that_hangs_turns_health_red_and_keeps_nobody_waiting(
        self, folder: Path, spy: Spy, beside: ThreadPoolExecutor
    ) -> None:
        with running(folder, request_timeout_s=1, device_timeout_s=1.5) as found:
            spy.free.clear()
            began = time.monotonic()
            hung = [beside.submit(found.post) for _ in range(3)]
            assert [post.result().status_code for post in hung] == [504] * 3
            assert time.monotonic() - began < 15
            assert_problem(hung[0].result(), 504, "1 s")
            until(lambda: found.get("/healthz").status_code == 503)
            assert "has not ended" in found.get("/healthz").json()["reason"]
            assert found.get("/readyz").status_code == 503
            assert_problem(found.post(), 503, "healthz")
            assert found.server._state.admission.inside == 0
            spy.free.set()  # it was only slow
            until(lambda: found.get("/healthz").status_code == 200)
            assert found.post().status_code == 200

    def test_numbers_that_are_none_are_no_answer(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = TorchEngine.run

        def run(engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
            answers = original(engine, pixels, alone=alone)
            is_served = threading.current_thread().name.startswith("device")
            return answers * torch.nan if is_served else answers

        monkeypatch.setattr(TorchEngine, "run", run)
        with running(folder) as found:
            assert_problem(found.post(), 500, "no numbers")

    def test_a_thread_that_ended_turns_health_red(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.batcher.Batcher._work", lambda batcher: None)
        with running(folder) as found:
            until(lambda: found.get("/healthz").status_code == 503)
            assert "has ended" in found.get("/healthz").json()["reason"]

    def test_a_pass_that_fails_beyond_repair_is_given_up_and_the_thread_goes_on(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = threading.Event()

        def observe(*told: object) -> None:
            if broken.is_set():
                raise RuntimeError("no more numbers")

        monkeypatch.setattr("service.telemetry.model_metrics.ModelMetrics.pass_ended", observe)
        with running(folder) as found:
            broken.set()
            assert_problem(found.post(), 500)
            broken.clear()
            assert found.post().status_code == 200
            assert found.get("/healthz").status_code == 200


class TestDecoders:
    def test_one_that_hangs_turns_health_red(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, free = hold_decoders(monkeypatch)
        with running(folder, request_timeout_s=0.3, device_timeout_s=1) as found:
            assert_problem(found.post(), 504)
            until(lambda: found.get("/healthz").status_code == 503)
            assert "decoded" in found.get("/healthz").json()["reason"]
            free.set()
            until(lambda: found.get("/healthz").status_code == 200)
            assert found.get("/readyz").status_code == 200

    def test_one_without_memory_is_no_fault_of_the_image(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(image: ImageFile.ImageFile) -> None:
            raise MemoryError

        with running(folder) as found:
            monkeypatch.setattr(ImageFile.ImageFile, "load", load)
            assert_problem(found.post(), 503, "memory")


class TestDeadlines:
    @pytest.mark.parametrize("path", ["/segment", "/segment/batch"])
    def test_a_wish_is_kept_and_expired_work_never_reaches_the_device(
        self, folder: Path, spy: Spy, beside: ThreadPoolExecutor, path: str
    ) -> None:
        with running(folder, batch_pixels=1) as found:
            spy.free.clear()
            first = beside.submit(found.post)
            assert spy.busy.wait(20)
            files = {"file": ("p", GOOD)}
            headers = {"X-Request-Timeout": "0.3"}
            late = httpx.post(found.url + path, files=files, headers=headers, timeout=20)
            if path == "/segment":
                assert_problem(late, 504, "0.3 s")
            else:
                assert [item["status"] for item in late.json()["results"]] == [504]
            spy.free.set()
            assert first.result().status_code == 200
            assert found.post().status_code == 200
            assert spy.sizes == [1, 1]

    @pytest.mark.parametrize("path", ["/segment", "/segment/batch"])
    def test_nobody_waits_for_a_decoder_that_takes_longer(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        """It cannot be interrupted; what it works for keeps its pixels until it has ended."""
        busy, free = hold_decoders(monkeypatch)
        with running(folder) as found:
            codec = found.server._state.codec
            headers = {"X-Request-Timeout": "0.5"}
            files = {"file": ("p", GOOD)}
            late = httpx.post(found.url + path, files=files, headers=headers, timeout=20)
            assert busy.is_set()
            if path == "/segment":
                assert_problem(late, 504, "0.5 s")
            else:
                assert [item["status"] for item in late.json()["results"]] == [504]
            assert codec.budget.held > 0
            free.set()
            until(lambda: codec.budget.held == 0)
            assert found.server._state.admission.inside == 0
            assert found.post().status_code == 200

    @pytest.mark.parametrize("wish", ["0", "-1", "soon", "nan", "inf"])
    def test_a_wish_that_is_no_time_is_refused(self, folder: Path, wish: str) -> None:
        with running(folder) as found:
            answer = httpx.post(
                f"{found.url}/segment", content=GOOD, headers={"X-Request-Timeout": wish}
            )
            assert_problem(answer, 422, "X-Request-Timeout")

    def test_a_long_wish_does_not_stretch_what_the_service_allows(
        self, folder: Path, spy: Spy
    ) -> None:
        with running(folder, request_timeout_s=0.3) as found:
            spy.free.clear()
            try:
                headers = {"X-Request-Timeout": "1000"}
                answer = httpx.post(f"{found.url}/segment", content=GOOD, headers=headers)
                assert_problem(answer, 504, "0.3 s")
            finally:
                spy.free.set()


class TestClients:
    def test_one_that_hangs_up_frees_its_place_and_is_not_computed_for(
        self, folder: Path, spy: Spy, beside: ThreadPoolExecutor
    ) -> None:
        with running(folder, batch_pixels=1) as found:
            admission = found.server._state.admission
            spy.free.clear()
            first = beside.submit(found.post)
            assert spy.busy.wait(20)
            with found.connect(HEAD + GOOD):
                until(lambda: admission.inside == 2)
            until(lambda: admission.inside == 1)
            spy.free.set()
            assert first.result().status_code == 200
            assert found.post().status_code == 200
            assert spy.sizes == [1, 1]

    def test_a_batch_whose_client_hangs_up_is_dropped_as_a_whole(
        self, folder: Path, spy: Spy
    ) -> None:
        form = httpx.Request("POST", "http://x", files=[("file", ("p", GOOD))] * 20)
        head = b"POST /segment/batch HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n" % (
            form.headers["content-type"].encode()
        )
        body = form.read()
        with running(folder, batch_pixels=1) as found:
            admission = found.server._state.admission
            spy.free.clear()
            with found.connect(head + b"Content-Length: %d\r\n\r\n" % len(body) + body):
                assert spy.busy.wait(20)
            until(lambda: admission.inside == 0)
            spy.free.set()
            assert found.post().status_code == 200
            assert spy.sizes == [1, 1]

    def test_a_batch_has_one_place_and_is_answered_whole(self, folder: Path) -> None:
        with running(folder, max_queue=1) as found:
            files = [("file", ("p", GOOD))] * 30
            answer = httpx.post(f"{found.url}/segment/batch", files=files, timeout=60)
            assert [item["status"] for item in answer.json()["results"]] == [200] * 30


class TestDisk:
    def test_uploads_need_none(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*arguments: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(tempfile, "TemporaryFile", full)
        with running(folder) as found:
            files = {"file": ("p", GOOD + bytes(3_000_000))}
            answer = httpx.post(f"{found.url}/segment", files=files, timeout=30)
            assert answer.status_code == 200

    @pytest.mark.parametrize("fault", ["deleted", "truncated", "replaced"])
    def test_what_becomes_of_the_checkpoints_file_changes_no_answer(
        self, folder: Path, fault: str
    ) -> None:
        file = folder / "colours.pth"
        with running(folder) as found:
            before = found.post().json()["classes"]
            if fault == "deleted":
                file.unlink()
                file.with_suffix(".json").unlink()
            elif fault == "truncated":
                with file.open("r+b") as opened:
                    opened.truncate(100)
            else:
                save_colours(file, shift=1)
            for _ in range(3):
                assert found.post().json()["classes"] == before
            [entry] = found.get("/models").json()["models"]
            assert (entry["name"], entry["status"]) == ("colours", "active")


def test_the_fixture_serves(folder: Path) -> None:
    """What all of these rest on."""
    with running(folder) as found:
        assert isinstance(found, Running)
        assert found.post().status_code == 200
