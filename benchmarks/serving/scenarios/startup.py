"""From a process's start to the answer that it is ready."""

from pathlib import Path

from benchmarks.serving.contenders import Contender
from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.figures import median
from benchmarks.serving.rounds import reason
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop


def measure(shop: Workshop) -> list[Table]:
    """The service as it starts by default; a first start of each, not counted, warms the disk."""
    contender = shop.service("auto")
    checkpoints = (shop.carried, shop.unet)
    took: dict[Path, list[float]] = {checkpoint: [] for checkpoint in checkpoints}
    reasons: dict[Path, str] = {}
    for turn in range(shop.plan.starts + 1):
        for checkpoint in checkpoints:
            try:
                seconds = _start(shop, contender, checkpoint)
            except BenchmarkError as error:
                reasons[checkpoint] = reason(error)
            else:
                took[checkpoint] += [seconds] if turn else []
    return [_table(took, reasons)]


def _start(shop: Workshop, contender: Contender, checkpoint: Path) -> float:
    with shop.running(contender, checkpoint) as server:
        return server.started_s


def _table(took: dict[Path, list[float]], reasons: dict[Path, str]) -> Table:
    table = Table(
        "From the process's start to /readyz",
        ("checkpoint", "seconds", "each start"),
        notes=["Median of the starts after a first one, which is left out; in turn."],
    )
    for checkpoint, seconds in took.items():
        if checkpoint in reasons:
            table.add(checkpoint.stem, reasons[checkpoint], checkpoint=checkpoint.stem)
            continue
        each = ", ".join(number(value, 2) for value in seconds)
        middle = median(seconds)
        table.add(
            checkpoint.stem, number(middle, 2), each, checkpoint=checkpoint.stem, seconds=seconds
        )
    return table
