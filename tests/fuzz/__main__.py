"""`make fuzz`: tens of thousands of damaged photographs through the whole service."""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.fuzz.case import make_case
from tests.fuzz.process import answer
from tests.fuzz.record import Record
from tests.fuzz.seeds import make_seeds
from tests.fuzz.verdict import Outcome
from tests.fuzz.worker import Plan, outcomes_of

SAVED = Path("build/fuzz")
COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)

Note = Callable[[Plan, Outcome], None]


def main(
    cases: Annotated[int, typer.Option(min=1, help="how many")] = 24_000,
    first: Annotated[int, typer.Option(min=0, help="number of the first")] = 0,
    seed: Annotated[int, typer.Option(help="of the whole sequence")] = 0,
    case: Annotated[int | None, typer.Option(help="this one alone, once more")] = None,
    data: Annotated[
        Path | None, typer.Option(help="a folder of photographs to use as well")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
    max_s: Annotated[float, typer.Option(help="ends after so many seconds")] = 900,
) -> None:
    """Exit status 1 where an answer was wrong, late or too large; such files are kept."""
    numbers = [case] if case is not None else list(range(first, first + cases))
    record, console, began = Record(), Console(), time.monotonic()
    with Progress(*COLUMNS, console=console) as progress:
        task = progress.add_task("fuzz", total=len(numbers))

        def note(plan: Plan, outcome: Outcome) -> None:
            record.add(outcome)
            progress.update(task, advance=1, description=f"{len(record.failures)} failures")
            if outcome.failure is not None:
                path = _save(outcome, plan)
                progress.console.print(f"case {outcome.number}: {outcome.failure}; {path}")

        shares = [numbers[start::workers] for start in range(min(workers, len(numbers)))]
        _work_through([Plan(seed, data, share) for share in shares], note, ends=began + max_s)
    console.print(record.table())
    for line in record.lines():
        console.print(line)
    console.print(f"{time.monotonic() - began:.0f} s, seed {seed}")
    if record.cases < len(numbers):
        console.print(f"{len(numbers) - record.cases:,} cases are left")
    sys.exit(1 if record.failures or not record.cases else 0)


def _work_through(plans: list[Plan], note: Note, *, ends: float) -> None:
    """Side by side, until all are done or the time of `time.monotonic` has come."""
    lock, stop = threading.Lock(), threading.Event()

    def work(plan: Plan) -> None:
        for outcome in outcomes_of(plan, answer):
            with lock:
                note(plan, outcome)
            if stop.is_set():
                return

    threads = [threading.Thread(target=work, args=(plan,), daemon=True) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    stop.set()


def _save(outcome: Outcome, plan: Plan) -> Path:
    """The file that was sent, and beside it what was done to it and how to send it again."""
    case = make_case(plan.seed, outcome.number, make_seeds(plan.data))
    path = SAVED / f"{plan.seed}-{outcome.number}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(case.content)
    again = f"python -m tests.fuzz --seed {plan.seed} --case {outcome.number}"
    if plan.data is not None:
        again += f" --data {plan.data}"
    note = {**asdict(outcome), "steps": case.steps, "again": again}
    path.with_suffix(".json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    typer.run(main)
