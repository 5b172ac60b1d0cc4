"""Whether memory grew, seen through its swings."""

import math

import pytest

from benchmarks.soak.vitals import Vitals, settled_growth


def looks(grown: float, *, swing: float = 0.1) -> list[Vitals]:
    """Half an hour that begins at 1000 MiB, the warming up below, and swings like a model that is
    loaded twice a minute."""
    minutes = [number / 12 for number in range(360)]
    return [
        Vitals(
            minutes=minute,
            mib=1000 * (1 + grown * minute / 30 + swing * math.sin(2 * math.tau * minute))
            - (300 if minute < 2 else 0),
            files=20,
            threads=40,
        )
        for minute in minutes
    ]


@pytest.mark.parametrize("grown", [-0.1, 0.0, 0.05, 0.5])
def test_is_what_grew_after_the_warming_up(grown: float) -> None:
    expected = grown * 0.9 / (1 + grown * 0.1)
    assert settled_growth(looks(grown)) == pytest.approx(expected, abs=0.01)


def test_a_few_looks_say_nothing() -> None:
    assert settled_growth(looks(0.5)[:2]) == 0
