"""Processes that work through cases; one that dies or hangs is noted and replaced."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.verdict import Outcome

HANG_S = 120.0  # for one case, or for the start, on a machine that has other work
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Plan:
    """Which cases: `numbers` of the sequence that `seed` begins."""

    seed: int
    data: Path | None
    numbers: Sequence[int]


Work = Callable[[Connection, Plan, Sequence[int]], None]  # sends an Outcome for each number


def outcomes_of(plan: Plan, work: Work) -> Iterator[Outcome]:
    """Of every case in order, from processes that do `work`. One that dies, by a decoder's mistake
    in C say, or is silent for HANG_S fails the case it was at; another goes on with the next."""
    done = 0
    while done < len(plan.numbers):
        left = plan.numbers[done:]
        ours, theirs = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=work, args=(theirs, plan, left), daemon=True)
        process.start()
        theirs.close()
        for outcome in _received(ours, process, left):
            done += 1
            yield outcome
        process.join()


def _received(
    connection: Connection, process: multiprocessing.process.BaseProcess, numbers: Sequence[int]
) -> Iterator[Outcome]:
    """Up to the first that failed for want of an answer."""
    for number in numbers:
        try:
            if connection.poll(HANG_S):
                yield connection.recv()
                continue
            process.kill()
            failure = f"no answer in {HANG_S:.0f} s"
        except EOFError:
            process.join()
            failure = f"the process ended with {process.exitcode}"
        yield Outcome(number, 0, "none", 0.0, None, failure)
        return
