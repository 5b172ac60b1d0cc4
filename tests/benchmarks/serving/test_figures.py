"""Percentiles, the limit and growth, against numbers worked out by hand."""

import math

import pytest

from benchmarks.serving.figures import growth, median, percentile, spread, throughput_limit


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 5.0), (0.9, 9.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(10, 0, -1)], share) == expected


def test_nothing_measured_has_no_figures() -> None:
    assert all(math.isnan(value) for value in (percentile([], 0.5), median([]), spread([])))
    assert math.isnan(growth([100.0]))


def test_the_limit_counts_forward_whole_and_codecs_per_core() -> None:
    # 30 ms on all cores and 12 ms on one of two: 36 ms for each request
    assert throughput_limit(30, 12, 2) == pytest.approx(1000 / 36)
    assert throughput_limit(30, 12, 1) < throughput_limit(30, 12, 2)


@pytest.mark.parametrize(
    ("series", "expected"), [([100, 110, 105], 0.1), ([100, 90, 80], 0.0), ([100, 100], 0.0)]
)
def test_growth_is_to_the_highest_later_value(series: list[float], expected: float) -> None:
    assert growth(series) == pytest.approx(expected)


def test_spread_is_that_of_the_farthest_value() -> None:
    assert spread([1.0, 1.0, 0.8, 1.1]) == pytest.approx(0.2)
