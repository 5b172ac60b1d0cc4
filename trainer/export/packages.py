"""The optional packages behind the formats: imported when needed, and kept quiet."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from models.private_import import import_private
from trainer.errors import ConfigError

NOISY_LOGGERS = ("nncf", "onnx_ir", "onnxscript", "torch.onnx", "torch.utils.cpp_extension")
THIRD_PARTY = r"(copyreg|google|networkx|nncf|numpy|onnx|onnx_ir|onnxscript|openvino|torch)\b"


def load_package(name: str, *, wanted_by: str) -> Any:
    """The module `name`; a ConfigError names the package and how to install it."""
    with quiet():
        try:
            return import_private(name)
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
