"""`python -m benchmarks.serving`: measures, shows the tables, writes figures and documentation."""

import json
import logging
import math
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress

from benchmarks.serving.docs import write_docs
from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.machine import best_float, machine
from benchmarks.serving.plan import Options, Plan
from benchmarks.serving.scenarios import (
    accuracy,
    afterwards,
    gpu,
    latency,
    memory,
    overload,
    profile,
    scaling,
    startup,
    throughput,
)
from benchmarks.serving.table import Table
from benchmarks.serving.workshop import Workshop
from models.errors import ModelError
from trainer.errors import TrainerError

ROOT = Path(__file__).parents[2]
SCENARIOS: dict[str, Callable[[Workshop], list[Table]]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "profile": profile.measure,
    "afterwards": afterwards.measure,
    "startup": startup.measure,
    "memory": memory.measure,
    "scaling": scaling.measure,
    "overload": overload.measure,
    "accuracy": accuracy.measure,
    "gpu": gpu.measure,
}
PEERS = ("fastapi", "litserve", "bentoml", "ray")

Tables = dict[str, list[Table]]

logger = logging.getLogger(__name__)


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"repeatable: {', '.join(SCENARIOS)}")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="folder of photographs; those of --data, or made up")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="VOC folder for `accuracy`")] = None,
    split: str = "val",
    carried: Annotated[Path, typer.Option(help="the small network that is measured as well")] = (
        ROOT / "checkpoints" / "voc.pth"
    ),
    precision: Annotated[list[str] | None, typer.Option(help="of the service, repeatable")] = None,
    engine: Annotated[str | None, typer.Option(help="of the service; its own choice")] = None,
    device: str = "cpu",
    peer: Annotated[
        list[str] | None, typer.Option(help=f"repeatable: {', '.join(PEERS)}, none; all")
    ] = None,
    peers_python: Annotated[
        Path, typer.Option(help="the interpreter that has them: make bench-peers")
    ] = (ROOT / "build" / "bench-peers" / "bin" / "python"),
    compiled: Annotated[bool, typer.Option(help="torch.compile in the bare loop, too")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="turns of each server")] = None,
    quick: Annotated[bool, typer.Option(help="tiny counts, to see that all of it works")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the figures")] = None,
    docs: Annotated[
        Path | None, typer.Option(help="write tables and charts: docs/serving-speed")
    ] = None,
) -> None:
    """Measures the service over HTTP, beside the bare network and beside other servers."""
    console = Console(stderr=True)
    logging.basicConfig(
        level="INFO", format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    # so that what runs is ended as after Ctrl-C
    signal.signal(signal.SIGTERM, _interrupt)
    if "OMP_NUM_THREADS" in os.environ:
        logger.warning("OMP_NUM_THREADS is set: it holds the servers back, not the bare loop")
    plan = Plan.quick() if quick else Plan()
    if rounds is not None:
        plan = plan.with_rounds(rounds)
    with tempfile.TemporaryDirectory() as temporary:
        options = Options(
            work=Path(temporary),
            images=images,
            data=data,
            split=split,
            carried=carried,
            precisions=tuple(precision or (best_float(device), "int8")),
            engine=engine,
            device=device,
            peers=tuple(peer or PEERS),
            peers_python=peers_python,
            compiled=compiled,
            plan=plan,
        )
        try:
            names = _chosen("--only", only, tuple(SCENARIOS))
            _chosen("--peer", peer, (*PEERS, "none"))
            _measure(options, names, console, json_path, docs)
        except (BenchmarkError, ModelError, TrainerError) as error:
            console.print(f"error: {error}", markup=False)
            raise typer.Exit(2) from error


def _chosen(option: str, given: list[str] | None, choices: tuple[str, ...]) -> list[str]:
    """What was given, or all; BenchmarkError names what is no choice."""
    for name in given or []:
        if name not in choices:
            raise BenchmarkError(f"{option} {name}: choose from {', '.join(choices)}")
    return given or list(choices)


def _measure(
    options: Options, names: list[str], console: Console, json_path: Path | None, docs: Path | None
) -> None:
    """One scenario after the other; what is measured is shown and kept at once."""
    facts = machine()
    tables: Tables = {}
    shop = Workshop(options)
    with Progress(console=console) as progress:
        task = progress.add_task("serving", total=len(names))
        for name in names:
            progress.update(task, description=name)
            tables[name] = SCENARIOS[name](shop)
            for table in tables[name]:
                Console(markup=False).print(table.for_terminal())
            if json_path is not None:
                json_path.write_text(json.dumps(_figures(tables, facts), indent=1))
            progress.advance(task)
    if docs is not None:
        for path in write_docs(docs, tables, facts):
            logger.info("wrote %s", path)


def _figures(tables: Tables, facts: dict[str, str]) -> dict[str, object]:
    found = {
        name: [{"title": table.title, "rows": _finite(table.records)} for table in each]
        for name, each in tables.items()
    }
    return {"machine": facts, "scenarios": found}


def _finite(records: list[dict[str, object]]) -> list[dict[str, object]]:
    """NaN is no JSON; what is not known is null."""
    return [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in records
    ]


def _interrupt(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    typer.run(main)
