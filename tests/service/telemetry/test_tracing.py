"""Spans, where they are asked for; nothing at all where they are not."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.errors import StartupError
from service.stages import STAGES
from service.telemetry import tracing
from service.telemetry.tracing import find_tracing, is_wanted
from tests.service.clients import (
    ADMIN_KEYS,
    AS_ADMIN,
    GOOD,
    ROOT,
    Client,
    client_for,
    settings_for,
)
from tests.service.colours import colour_manifest, encoded, picture_of, save_colours
from tests.service.spy import Spy

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "masks"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
    ],
)
def test_an_exporter_or_a_place_to_send_to_is_what_asks_for_spans(
    environment: dict[str, str], expected: bool
) -> None:
    assert is_wanted(environment) is expected


def test_nothing_is_imported_that_was_not_asked_for() -> None:
    code = (
        "import sys, service.__main__\n"
        "from service.telemetry.tracing import find_tracing\n"
        "assert find_tracing() is None\n"
        "loaded = [name for name in sys.modules if name.startswith('opentelemetry.sdk')\n"
        "          or name.startswith('opentelemetry.exporter') or name.endswith('spans')]\n"
        "assert not loaded, loaded\n"
    )
    environment = {"PATH": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def test_spans_without_the_package_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(tracing, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert find_tracing() is None
    assert ".[telemetry]" in caplog.text


class Exported:
    """The spans of an app, as they would be sent."""

    def __init__(self) -> None:
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        export = pytest.importorskip("opentelemetry.sdk.trace.export")
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        from service.telemetry.spans import Spans

        self._exporter = memory.InMemorySpanExporter()
        provider = sdk.TracerProvider()
        provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))
        self.spans = Spans(provider)

    def clear(self) -> None:
        self._exporter.clear()

    def finished(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())

    def request(self) -> Any:
        [request] = [span for span in self.finished() if span.kind.name == "SERVER"]
        return request

    def images(self) -> list[Any]:
        return [span for span in self.finished() if span.name == "image"]

    def stages(self) -> list[Any]:
        return [span for span in self.finished() if span.name in STAGES]


@pytest.fixture
def exported() -> Exported:
    return Exported()


@pytest.fixture
def traced(exported: Exported, folder: Path) -> Iterator[Client]:
    with client_for(create_app(settings_for(folder), spans=exported.spans)) as client:
        yield client


class TestSpans:
    def test_a_span_a_stage_under_the_requests(self, traced: Client, exported: Exported) -> None:
        response = traced.post("/segment", content=GOOD, headers={"X-Request-ID": "abc"})
        assert response.status_code == 200
        request = exported.request()
        assert request.name == "POST /segment"
        assert request.attributes["http.response.status_code"] == 200
        assert request.attributes["maskwright.model"] == "colours"
        assert request.attributes["maskwright.request_id"] == "abc"
        assert {span.name for span in exported.stages()} == set(STAGES)
        [image] = exported.images()
        assert image.parent.span_id == request.context.span_id
        assert image.attributes["maskwright.image"] == 0
        assert image.status.status_code.name == "UNSET"
        for span in exported.stages():
            assert span.parent.span_id == image.context.span_id
            assert request.start_time - 10**7 <= span.start_time <= span.end_time
            assert span.end_time <= request.end_time + 10**7

    def test_the_clients_trace_goes_on(self, traced: Client, exported: Exported) -> None:
        traced.post("/segment", content=GOOD, headers={"traceparent": TRACEPARENT})
        request = exported.request()
        assert f"{request.parent.span_id:016x}" == PARENT
        assert {f"{span.context.trace_id:032x}" for span in exported.finished()} == {TRACE}

    def test_nonsense_for_a_trace_begins_a_new_one(
        self, traced: Client, exported: Exported
    ) -> None:
        headers = {b"traceparent": b"00-zz-\xff"}
        assert traced.post("/segment", content=GOOD, headers=headers).status_code == 200
        assert exported.request().parent is None

    def test_a_refused_image_has_the_stages_it_reached(
        self, traced: Client, exported: Exported
    ) -> None:
        assert traced.post("/segment", content=b"no image").status_code == 400
        assert [span.name for span in exported.stages()] == ["decode"]
        assert [span.status.status_code.name for span in exported.images()] == ["ERROR"]
        assert exported.request().status.status_code.name == "UNSET"

    def test_a_failing_device_is_an_error(self, spy: Spy, exported: Exported, folder: Path) -> None:
        spy.failing_paint = [240, 10, 10]
        with client_for(create_app(settings_for(folder), spans=exported.spans)) as client:
            exported.clear()
            assert client.post("/segment", content=GOOD).status_code == 500
        assert exported.request().status.status_code.name == "ERROR"

    def test_the_images_of_a_batch_are_told_apart(self, traced: Client, exported: Exported) -> None:
        files = [("file", ("p", content)) for content in (GOOD, b"no image", GOOD)]
        assert traced.post("/segment/batch", files=files).status_code == 200
        states = {
            span.attributes["maskwright.image"]: span.status.status_code.name
            for span in exported.images()
        }
        assert states == {0: "UNSET", 1: "ERROR", 2: "UNSET"}
        parents = {span.parent.span_id for span in exported.stages()}
        assert parents == {span.context.span_id for span in exported.images()}

    @pytest.mark.parametrize("path", ["/nothing", "/models/absent", "/healthz"])
    def test_every_request_is_found_by_its_id(
        self, traced: Client, exported: Exported, path: str
    ) -> None:
        traced.get(path, headers={"X-Request-ID": "abc"})
        assert exported.request().attributes["maskwright.request_id"] == "abc"

    def test_the_steps_of_a_load_are_below_its_request(
        self, exported: Exported, three_models: Path
    ) -> None:
        app = create_app(settings_for(three_models, api_keys=ADMIN_KEYS), spans=exported.spans)
        with client_for(app, headers=AS_ADMIN) as client:
            exported.clear()
            assert client.post("/models/other/load").status_code == 201
        request = exported.request()
        steps = [span for span in exported.finished() if span.kind.name != "SERVER"]
        assert [span.name for span in steps] == ["read", "choose engine", "warm up"]
        assert {span.parent.span_id for span in steps} == {request.context.span_id}

    def test_many_tiles_are_one_span(self, exported: Exported, tmp_path: Path) -> None:
        manifest = colour_manifest()
        tiled = manifest.input.model_copy(update={"mode": "tile"})
        save_colours(tmp_path / "colours.pth", input=tiled)
        with client_for(create_app(settings_for(tmp_path), spans=exported.spans)) as client:
            picture = encoded(picture_of(200, 150))
            assert client.post("/segment", content=picture).status_code == 200
        names = [span.name for span in exported.stages()]
        assert names.count("device") == names.count("upsample") == 1

    def test_the_access_line_has_the_trace(
        self, traced: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="service.telemetry.access"):
            traced.get("/healthz", headers={"traceparent": TRACEPARENT})
        [record] = [r for r in caplog.records if r.name == "service.telemetry.access"]
        assert record.__dict__["fields"]["trace_id"] == TRACE


class TestConfiguration:
    @pytest.fixture(autouse=True)
    def _with_the_package(self) -> None:
        pytest.importorskip("opentelemetry.sdk")
        pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

    def test_the_environment_names_the_service(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from service.telemetry import spans

        assert spans._resource().attributes["service.name"] == "maskwright"
        monkeypatch.setenv("OTEL_SERVICE_NAME", "masks")
        assert spans._resource().attributes["service.name"] == "masks"

    def test_the_protocol_picks_the_exporter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from service.telemetry import spans

        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        assert "proto.http" in type(spans._exporter()).__module__

    @pytest.mark.parametrize(
        ("name", "value"),
        [("OTEL_TRACES_EXPORTER", "zipkin3"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke")],
    )
    def test_what_is_not_there_is_said(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv(name, value)
        with pytest.raises(StartupError, match=f"{name}={value}"):
            find_tracing()

    def test_a_collector_that_is_away_delays_no_stop(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        found = find_tracing()
        assert found is not None
        with client_for(create_app(settings_for(folder), spans=found)) as client:
            assert client.post("/segment", content=GOOD).status_code == 200
