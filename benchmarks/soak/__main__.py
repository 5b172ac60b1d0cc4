"""`python -m benchmarks.soak`: mixed sizes, errors, changes of models and hang-ups for a while.

Ends with status 1 where an answer was lost or not what it must be, or where memory grew.
"""

import logging
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress

from benchmarks.serving.checkpoints import copy_checkpoint, twin
from benchmarks.serving.contenders import ours
from benchmarks.serving.images import image_files, mixed, photographs
from benchmarks.serving.machine import machine
from benchmarks.serving.request import Photograph
from benchmarks.serving.servers import Server, last_line, serving
from benchmarks.soak.actions import MAX_UPLOAD_BYTES
from benchmarks.soak.clients import Changer, Client, Tally
from benchmarks.soak.page import results, write_page
from benchmarks.soak.vitals import Vitals, settled_growth

ROOT = Path(__file__).parents[2]
LOOK_S = 5.0
MAX_GROWTH = 0.05
STOP_S = 120.0

logger = logging.getLogger(__name__)


def main(
    minutes: Annotated[float, typer.Option(min=0.05)] = 30.0,
    clients: Annotated[int, typer.Option(min=1, max=12)] = 4,
    swap_s: Annotated[float, typer.Option(help="seconds between changes of the model")] = 1.0,
    images: Annotated[
        Path | None, typer.Option(help="folder of photographs; made up when absent")
    ] = None,
    carried: Annotated[Path, typer.Option(help="the checkpoint")] = (
        ROOT / "checkpoints" / "voc.pth"
    ),
    docs: Annotated[
        Path | None, typer.Option(help="write the page and its chart: docs/robustness")
    ] = None,
    seed: int | None = None,
) -> None:
    """Uses the service as many clients do, for better or worse, and looks whether it wears out."""
    console = Console(stderr=True)
    logging.basicConfig(
        level="INFO", format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    logger.info("seed %d", seed)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        pictures = _pictures(images, work)
        folder = work / "checkpoints"
        folder.mkdir()
        model = copy_checkpoint(carried, folder)
        models = [model.stem, twin(model).stem]
        broken = _broken(model)
        contender = ours(
            "auto", cache=work / "cache", max_upload_bytes=MAX_UPLOAD_BYTES, is_guarded=True
        )
        assert contender.key is not None
        with serving(contender.command(model), log=work / "log") as server:
            tally, seen = Tally(), list[Vitals]()
            threads: list[Client | Changer] = [
                Client(server.port, contender.key, pictures, tally, seed=seed + number)
                for number in range(clients)
            ]
            threads.append(
                Changer(server.port, contender.key, models, broken, tally, every_s=swap_s)
            )
            _run(threads, server, seen, seconds=60 * minutes, console=console)
        status = server.process.returncode
        logger.info("the service ended with status %s", status)
        if status:
            tally.note("end", f"status {status}: {last_line(server.log)}")
    tables = results(tally, seen, minutes=minutes, clients=clients)
    for table in tables:
        Console(markup=False).print(table.for_terminal())
    facts = machine()
    where = f"Measured on {facts['processor']}, {facts['cores']} cores; seed {seed}."
    if docs is not None:
        write_page(docs, tables, seen, where)
    raise typer.Exit(1 if tally.failures or settled_growth(seen) > MAX_GROWTH else 0)


def _pictures(images: Path | None, work: Path) -> list[Photograph]:
    sources = image_files(images) if images is not None else []
    return mixed(photographs(sources, work / "photographs", 20), work / "mixed")


def _broken(model: Path) -> Path:
    """A checkpoint that does not fit its manifest's hash."""
    path = model.with_name("broken.pth")
    path.write_bytes(model.read_bytes()[:-1000] + bytes(1000))
    shutil.copy(model.with_suffix(".json"), path.with_suffix(".json"))
    return path


def _run(
    threads: list[Client | Changer],
    server: Server,
    seen: list[Vitals],
    *,
    seconds: float,
    console: Console,
) -> None:
    began = time.monotonic()
    for thread in threads:
        thread.start()
    with Progress(console=console) as progress:
        task = progress.add_task("soak", total=seconds)
        try:
            while (passed := time.monotonic() - began) < seconds and server.process.poll() is None:
                seen.append(Vitals.of(server.pid, began))
                progress.update(task, completed=passed, description=f"soak, {seen[-1].mib:.0f} MiB")
                time.sleep(min(LOOK_S, seconds / 20))
        finally:
            for thread in threads:
                thread.stopping.set()
            for thread in threads:
                thread.join(STOP_S)


if __name__ == "__main__":
    typer.run(main)
