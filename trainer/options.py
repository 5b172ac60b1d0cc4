"""Options declared once, as dataclass fields: type, default, limits and help are read off them."""

import math
from collections.abc import Mapping
from dataclasses import Field, field, fields
from typing import Any, TypeVar

from trainer.errors import ConfigError

T = TypeVar("T")


def option(
    default: T,
    explanation: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> T:
    """A dataclass field that is also a command-line option."""
    metadata = {"help": explanation, "low": low, "high": high, "choices": choices}
    found: T = field(default=default, metadata=metadata)
    return found


def flag(name: str) -> str:
    """The command line's spelling of a field."""
    return f"--{name.replace('_', '-')}"


def check_options(instance: Any) -> None:
    """Raises ConfigError for the first field whose value breaks its own limits; None passes."""
    for declared in fields(instance):
        value = getattr(instance, declared.name)
        if value is not None and declared.metadata:
            _check(flag(declared.name), value, declared.metadata)


def _check(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    if limits["choices"] and value not in limits["choices"]:
        raise ConfigError(f"{name} {value}: choose from {', '.join(limits['choices'])}")
    low, high = limits["low"], limits["high"]
    if low is None and high is None:
        return
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if not low <= value <= high or math.isinf(value):  # NaN compares as outside
        raise ConfigError(f"{name} {value}: must lie in {low}..{high}")


def help_of(declared: Field[Any]) -> str:
    """What `--help` says: the explanation, and the choices where they are few words."""
    text: str = declared.metadata.get("help", "")
    choices = declared.metadata.get("choices", ())
    return f"{text}: {', '.join(choices)}" if choices and text else text or ", ".join(choices)
