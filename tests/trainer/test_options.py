"""Options declared as dataclass fields."""

from dataclasses import dataclass, fields
from typing import Any

import pytest

from trainer.errors import ConfigError
from trainer.options import check_options, flag, help_of, option


@dataclass(frozen=True)
class Choices:
    plain: int = 5
    steps: int = option(3, "how many", low=1, high=10)
    open_ended: float = option(1.0, low=0)
    kind: str = option("a", "which one", choices=("a", "b"))
    bare: str | None = option(None, choices=("x", "y"))


FIELDS = {field.name: field for field in fields(Choices)}


def test_an_option_is_a_default() -> None:
    assert Choices() == Choices(plain=5, steps=3, open_ended=1.0, kind="a", bare=None)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"steps": 1},
        {"steps": 10},
        {"open_ended": 1e300},
        {"kind": "b"},
        {"bare": "y"},
        {"plain": -1},
        {"steps": None},
    ],
    ids=str,
)
def test_values_within_the_limits_pass_and_so_does_none(values: dict[str, Any]) -> None:
    check_options(Choices(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "--steps 0: must lie in 1..10"),
        ({"steps": 11}, "--steps 11: must lie in 1..10"),
        ({"open_ended": -0.5}, "--open-ended -0.5: must lie in 0..inf"),
        ({"open_ended": float("nan")}, "--open-ended nan: must lie in 0..inf"),
        ({"open_ended": float("inf")}, "--open-ended inf: must lie in 0..inf"),
        ({"kind": "c"}, "--kind c: choose from a, b"),
        ({"bare": ""}, "--bare : choose from x, y"),
        ({"steps": 0, "kind": "c"}, "--steps 0: must lie in 1..10"),
    ],
    ids=str,
)
def test_the_first_value_that_breaks_its_limits_is_named(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_options(Choices(**values))
    assert str(caught.value) == message


def test_an_option_is_spelled_with_dashes() -> None:
    assert flag("clip_norm") == "--clip-norm"


@pytest.mark.parametrize(
    ("name", "text"),
    [("plain", ""), ("steps", "how many"), ("kind", "which one: a, b"), ("bare", "x, y")],
)
def test_help_is_the_explanation_and_the_choices(name: str, text: str) -> None:
    assert help_of(FIELDS[name]) == text
