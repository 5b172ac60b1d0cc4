"""The optional packages behind the formats: imported when needed, and kept quiet."""

import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from trainer.errors import ConfigError

NOISY_LOGGERS = ("nncf", "onnx_ir", "onnxscript", "torch.onnx", "torch.utils.cpp_extension")
NO_TELEMETRY = "NNCF_CI"  # the one switch NNCF has for it
THIRD_PARTY = r"(copyreg|google|networkx|nncf|numpy|onnx|onnx_ir|onnxscript|openvino|torch)\b"


def load_package(name: str, *, wanted_by: str) -> Any:
    """The module `name`; a ConfigError names the package and how to install it."""
    # what is exported, and that it was, is nobody else's business: no usage report is sent
    os.environ.setdefault(NO_TELEMETRY, "1")
    with quiet():
        try:
            return importlib.import_module(name)
        except ImportError as error:
            missing = (error.name or name).partition(".")[0]
            raise ConfigError(
                f"--format {wanted_by}: the package {missing} is not installed "
                "(pip install '.[export]')"
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the packages' deprecations, progress bars and log lines off the terminal."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            for category in (DeprecationWarning, FutureWarning, UserWarning):
                warnings.filterwarnings("ignore", category=category, module=THIRD_PARTY)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
