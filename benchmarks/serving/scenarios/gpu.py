"""Services that share a GPU beside the bare batched forward pass there; on the CPU it shows that it
works.

One process is held back by Python's lock, of which every request needs a millisecond or two, long
before a GPU is: several of them, as behind a proxy, show what the card and the cores can do.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from urllib.request import urlopen

import torch

from benchmarks.serving.bare import BareTime, Setup, all_setups, fastest, measure_bare
from benchmarks.serving.contenders import Contender, ours
from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.figures import median
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.machine import best_float, cores
from benchmarks.serving.rounds import Turns, reason
from benchmarks.serving.servers import HOST, Server
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop


def measure(shop: Workshop) -> list[Table]:
    """The large networks, then the carried one; that alone where it only shows that it works."""
    is_there = torch.cuda.is_available()
    checkpoints = [shop.resnet, shop.unet, shop.carried] if is_there else [shop.carried]
    return [_compared(shop, each, "cuda" if is_there else "cpu") for each in checkpoints]


def _compared(shop: Workshop, checkpoint: Path, device: str) -> Table:
    precision = best_float(device)
    setups = _setups(shop, precision, recorded=device == "cuda")
    rows = {count: Turns(_service(shop, device, 0, count)) for count in shop.plan.gpu_services}
    forwards: list[BareTime] = []
    engines: set[str] = set()
    assert shop.pictures
    folder, seconds = shop.picture_folder, shop.plan.bare_seconds
    for _ in range(shop.plan.rounds):
        forwards += measure_bare(checkpoint, folder, setups, seconds=seconds, device=device)
        for count, row in rows.items():
            if row.reason is not None:
                continue
            try:
                row.results.append(_together(shop, checkpoint, device, count, engines))
            except BenchmarkError as error:
                row.reason = reason(error)
    where = torch.cuda.get_device_name() if device == "cuda" else "the CPU, for want of a GPU"
    table = _table(shop, f"{checkpoint.stem} on {where}", forwards, rows)
    table.notes.append(f"Engine of the services: {', '.join(sorted(engines)) or 'none'}.")
    return table


def _service(shop: Workshop, device: str, index: int, count: int) -> Contender:
    """One of `count`, with its share of the cores."""
    threads = ["--threads", str(max(1, cores() // count))] if count > 1 else []
    name = f"service {index + 1} of {count}"
    precision = best_float(device)
    return ours(precision, device=device, engine=shop.options.engine, extra=threads, name=name)


def _engine(server: Server) -> str:
    """What it took, and what it refused before."""
    with urlopen(f"http://{HOST}:{server.port}/models") as answer:
        listed = json.load(answer)
    model = next(each for each in listed["models"] if each["name"] == listed["active"])
    refused = "".join(f"; refused {each}" for each in model["engine"]["refused"])
    return f"{model['engine']['name']}{refused}"


def _together(
    shop: Workshop, checkpoint: Path, device: str, count: int, engines: set[str]
) -> LoadResult:
    """`count` services at a time, each with clients of its own, which begin when all are ready."""
    ready = Barrier(count)

    def turn(index: int) -> LoadResult:
        contender = _service(shop, device, index, count)
        try:
            with shop.running(contender, checkpoint) as server:
                engines.add(_engine(server))
                ready.wait()
                result = shop.load(server, contender, clients=shop.plan.clients)
                ready.wait()  # none is stopped while others are measured
                return result
        except BaseException:
            ready.abort()
            raise

    with ThreadPoolExecutor(count) as threads:
        turns = [threads.submit(turn, index) for index in range(count)]
    errors = [found for found in (each.exception() for each in turns) if found is not None]
    for error in errors:
        if isinstance(error, BenchmarkError):  # not that the others waited in vain
            raise error
    if errors:
        raise errors[0]
    results = [each.result() for each in turns]
    whole = LoadResult.joined(results)
    whole.seconds = max(result.seconds for result in results)
    return whole


def _setups(shop: Workshop, precision: str, *, recorded: bool) -> list[Setup]:
    """The network by itself, as users of PyTorch run it, and on CUDA as the service does."""
    batches = shop.plan.gpu_batches
    setups = [
        setup
        for setup in all_setups(batches=batches, compiled=shop.options.compiled)
        if setup.precision == precision
    ]
    if recorded:
        setups += [Setup("torch", precision, batch, recorded=True) for batch in batches]
    return setups


def _table(shop: Workshop, title: str, forwards: list[BareTime], rows: dict[int, Turns]) -> Table:
    table = Table(
        title,
        ("", "images/s", "p50 ms", "p99 ms", "share of the forward", "failed"),
        notes=[
            f"640x427 JPEG in, PNG out, {shop.plan.clients} clients for each service; services and "
            f"load generators on {cores()} cores."
        ],
    )
    for setup in dict.fromkeys(each.setup for each in forwards):
        times = [each.ms for each in forwards if each.setup == setup and each.ms]
        if times:
            bare = 1000 / median(times)
            name = f"forward alone: {setup.name}, batch {setup.batch}"
            table.add(name, number(bare), per_second=bare)
    best = fastest(forwards, tuple({each.setup.precision for each in forwards}))
    for count, row in rows.items():
        name = "1 service" if count == 1 else f"{count} services"
        if row.results and best.ms:
            share = row.per_second * best.ms / 1000
            cells = [number(row.per_second), number(row.p50_ms), number(row.p99_ms)]
            figures = {"services": count, "per_second": row.per_second, "share": share}
            table.add(name, *cells, number(share, 2), str(row.failed), **figures)
        else:
            table.add(name, row.reason or "")
    return table
