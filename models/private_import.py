"""Optional packages, imported when they are needed and without the reports that they send home."""

import importlib
import sys
from typing import Any

REPORTER = "openvino_telemetry"  # OpenVINO and NNCF tell a web service of every conversion


def import_private(name: str) -> Any:
    """The module, ImportError where it is not installed.

    What is served, trained and exported here is nobody else's business. OpenVINO and NNCF do
    without their reporter where it cannot be imported, so it is made so that it cannot be.
    """
    sys.modules.setdefault(REPORTER, None)  # type: ignore[arg-type]
    return importlib.import_module(name)
