"""Turns of several servers, interleaved: in every round each has its own."""

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.serving.contenders import Contender
from benchmarks.serving.errors import BenchmarkError, NotInstalledError, RefusedError
from benchmarks.serving.figures import median
from benchmarks.serving.load_job import LoadResult


@dataclass
class Turns:
    """What a contender did in all rounds, or why it had none."""

    contender: Contender
    results: list[LoadResult] = field(default_factory=list)
    reason: str | None = None

    @property
    def per_second(self) -> float:
        return median([result.per_second for result in self.results])

    @property
    def p50_ms(self) -> float:
        return median([result.p50_ms for result in self.results])

    @property
    def p99_ms(self) -> float:
        return median([result.p99_ms for result in self.results])

    @property
    def failed(self) -> int:
        return sum(result.failed for result in self.results)

    @property
    def precision(self) -> str:
        return self.contender.precision or "float32"


def interleave(
    contenders: list[Contender],
    rounds: int,
    turn: Callable[[Contender], LoadResult],
    *,
    between: Callable[[], None] | None = None,
) -> list[Turns]:
    """`turn` starts the contender's server, measures and stops it; `between` is measured once in
    every round as well. Who fails is left out of the rounds that follow, with the reason."""
    table = [Turns(contender) for contender in contenders]
    for _ in range(rounds):
        if between is not None:
            between()
        for row in table:
            if row.reason is None:
                _take(row, turn)
    return table


def _take(row: Turns, turn: Callable[[Contender], LoadResult]) -> None:
    try:
        row.results.append(turn(row.contender))
    except BenchmarkError as error:
        row.reason = reason(error)


def reason(error: BenchmarkError) -> str:
    """What a row says instead of figures."""
    if isinstance(error, NotInstalledError):
        return str(error)
    return f"refused: {error}" if isinstance(error, RefusedError) else f"failed: {error}"
