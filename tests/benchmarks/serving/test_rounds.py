"""Servers take turns, and one that fails does not end the run."""

import sys
from pathlib import Path

import pytest

from benchmarks.serving.contenders import Contender
from benchmarks.serving.errors import BenchmarkError, NotInstalledError, RefusedError
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.rounds import interleave
from benchmarks.serving.servers import Command


def contender(name: str) -> Contender:
    return Contender(name, lambda _: Command([sys.executable], "/"))


def test_each_has_its_turn_in_every_round() -> None:
    seen: list[str] = []

    def turn(who: Contender) -> LoadResult:
        seen.append(who.name)
        return LoadResult(seconds=1.0, latencies_ms=[1.0] * len(seen))

    rows = interleave(
        [contender("a"), contender("b")], 3, turn, between=lambda: seen.append("limit")
    )
    assert seen == ["limit", "a", "b"] * 3
    assert [row.per_second for row in rows] == [5.0, 6.0]  # medians of 2, 5, 8 and 3, 6, 9


def test_who_fails_is_asked_no_more_and_says_why() -> None:
    errors = {
        "absent": NotInstalledError("not installed: ray"),
        "refuses": RefusedError("error: --precision int8"),
        "breaks": BenchmarkError("no answer"),
    }
    asked: list[str] = []

    def turn(who: Contender) -> LoadResult:
        asked.append(who.name)
        raise errors[who.name]

    rows = interleave([contender(name) for name in errors], 2, turn)
    assert asked == list(errors)
    assert [row.reason for row in rows] == [
        "not installed: ray",
        "refused: error: --precision int8",
        "failed: no answer",
    ]


def test_a_peer_without_its_environment_is_not_installed(tmp_path: Path) -> None:
    for python, package in ((tmp_path / "python", "json"), (Path(sys.executable), "no_such_one")):
        peer = Contender("x", lambda _: Command([], "/"), python=python, package=package)
        with pytest.raises(NotInstalledError, match="not installed"):
            peer.require_installed()
