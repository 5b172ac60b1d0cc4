"""Whether spans are wanted. Only then OpenTelemetry is imported."""

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.telemetry.spans import Spans

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def find_tracing() -> "Spans | None":
    """As the environment asks; StartupError for an exporter that is not there."""
    if not is_wanted(os.environ):
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        logger.warning("OTEL_ variables ask for spans, but pip install '.[telemetry]' was not run")
        return None
    from service.telemetry.spans import configured_spans

    return configured_spans()


def is_wanted(environment: Mapping[str, str]) -> bool:
    """An exporter is named, or where to send spans to."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    return any(environment.get(name) for name in ENDPOINTS)
