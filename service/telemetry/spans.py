"""OpenTelemetry spans: FastAPI's own for the request, under it an image's, under that its stages'.

The provider is the app's alone. A client's `traceparent` (W3C Trace Context) is where the request
belongs; `OTEL_PROPAGATORS`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, `OTEL_BSP_*`,
`OTEL_EXPORTER_OTLP_*` and the rest mean what the specification says.
"""

import os
import time
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from service.errors import StartupError
from service.stages import Stages

PROTOCOLS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
NANOSECONDS = 1_000_000_000


class Spans:
    """Belongs to one app."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("maskwright")

    def app_options(self) -> dict[str, Any]:
        """What FastAPI takes to trace requests into the same provider, and nothing more."""
        return {
            "tracer_provider": self._provider,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        }

    def request_began(self, request_id: str | None) -> str | None:
        """Names the span of the request that is being answered; its trace's id, 32 hexadecimal
        digits, or None without one."""
        request = trace.get_current_span()
        context = request.get_span_context()
        request.set_attribute("maskwright.request_id", request_id or "")
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def image_ended(self, model: str, stages: Stages, *, failed: bool) -> None:
        """Spans of what has been: the image's, whose parent is the request that is being answered,
        and under it one a stage."""
        trace.get_current_span().set_attribute("maskwright.model", model)
        epoch = time.time() - time.perf_counter()
        image = self._tracer.start_span(
            "image",
            start_time=_ns(epoch + stages.began),
            attributes={"maskwright.model": model, "maskwright.image": stages.image},
        )
        if failed:
            image.set_status(trace.StatusCode.ERROR)
        under = trace.set_span_in_context(image)
        for part in stages.parts:
            span = self._tracer.start_span(
                part.stage,
                context=under,
                start_time=_ns(epoch + part.began),
                attributes={"maskwright.model": model, "maskwright.busy_ms": part.busy_s * 1000},
            )
            span.end(_ns(epoch + part.ended))
        image.end()

    def step(self, name: str) -> AbstractContextManager[object]:
        """A span of what is done within it."""
        return self._tracer.start_as_current_span(name)

    def close(self) -> None:
        """Sends what is left, in bounded time."""
        self._provider.shutdown()


def configured_spans() -> Spans:
    """As the environment says."""
    provider = TracerProvider(resource=_resource())
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    return Spans(provider)


def _resource() -> Resource:
    found = Resource.create()  # which reads the environment
    if str(found.attributes["service.name"]).startswith("unknown_service"):
        found = found.merge(Resource({"service.name": "maskwright"}))
    return found


def _exporter() -> SpanExporter:
    name = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if name == "otlp":
        name = _otlp()
    found = next(iter(entry_points(group="opentelemetry_traces_exporter", name=name)), None)
    if found is None:
        raise StartupError(f"OTEL_TRACES_EXPORTER={name}: no such exporter is installed")
    exporter: SpanExporter = found.load()()
    return exporter


def _otlp() -> str:
    """The exporter of the protocol."""
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(variable, "").strip()
        if protocol:
            if protocol not in PROTOCOLS:
                raise StartupError(f"{variable}={protocol}: choose from {', '.join(PROTOCOLS)}")
            return PROTOCOLS[protocol]
    return PROTOCOLS["http/protobuf"]


def _ns(seconds: float) -> int:
    return int(seconds * NANOSECONDS)
