"""What a C compiler made of the sources here where the package was installed, if there was one."""

import ctypes
import logging
from functools import cache
from importlib.util import find_spec
from typing import Any

logger = logging.getLogger(__name__)

NAME = "models._compiled"  # as pyproject.toml has it; no module
INTERFACE = 3  # as processor.c has it
MAX_CLASSES = 256  # as paint.h has it
POINTER, NUMBER, FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


class LogitsLayout(ctypes.Structure):
    """`Logits` as logits.h has it."""

    _fields_ = (
        ("values", POINTER),
        ("is_bfloat16", NUMBER),
        ("plane", NUMBER),
        ("line", NUMBER),
        ("column", NUMBER),
        ("classes", NUMBER),
        ("height", NUMBER),
        ("width", NUMBER),
    )


class SideLayout(ctypes.Structure):
    """`Side` as blend.c has it."""

    _fields_ = (("pixels", NUMBER), ("inside", NUMBER), ("weights", POINTER))


class CommonLayout(ctypes.Structure):
    """`Common` as blend.c has it."""

    _fields_ = (
        ("sums", POINTER),
        ("plane", NUMBER),
        ("line", NUMBER),
        ("reach", NUMBER),
        ("cut", NUMBER),
    )


@cache
def library() -> Any | None:
    """Its functions run without Python's lock. None where it cannot be had, for a reason that is
    logged once."""
    found = find_spec(NAME)
    if found is None or found.origin is None:
        logger.info("masks are made the slower way: models/*.c were not compiled at installation")
        return None
    try:
        return _declared(ctypes.CDLL(found.origin))
    except (OSError, AttributeError) as error:
        logger.warning("masks are made the slower way: %s", error)
        return None


def _declared(loaded: Any) -> Any:
    """OSError or AttributeError for one of another version."""
    if loaded.interface() != INTERFACE:
        raise OSError(f"{loaded._name} is of another version; install again")
    logits, common = ctypes.POINTER(LogitsLayout), ctypes.POINTER(CommonLayout)
    sides: list[Any] = [ctypes.POINTER(SideLayout)] * 2  # rows, columns
    answer: list[Any] = [POINTER, POINTER]  # pixels, confidence
    loaded.segment.argtypes = [FLAG, logits, NUMBER, NUMBER, POINTER, *answer]
    loaded.blend.argtypes = [FLAG, logits, *sides, common, common, FLAG, POINTER, NUMBER, *answer]
    return loaded
