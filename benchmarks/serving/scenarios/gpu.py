"""Services that share a GPU beside the bare batched forward pass there; on the CPU it shows that it
works.

One process is held back by Python's lock, of which every request needs a millisecond or two, long
before a GPU is: several of them, as behind a proxy, show what the card and the cores can do.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
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
from benchmarks.serving.rounds import reason
from benchmarks.serving.servers import HOST, Server
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop


def measure(shop: Workshop) -> list[Table]:
    """The large networks, then the carried one; that alone where it only shows that it works."""
    is_there = torch.cuda.is_available()
    checkpoints = [shop.resnet, shop.unet, shop.carried] if is_there else [shop.carried]
    return [_compared(shop, each, "cuda" if is_there else "cpu") for each in checkpoints]


@dataclass
class _Row:
    """So many services at a time, asked for so many images in a request."""

    count: int
    images: int
    clients: int
    decode_on: str
    results: list[LoadResult] = field(default_factory=list)
    reason: str | None = None

    @property
    def name(self) -> str:
        services = "1 service" if self.count == 1 else f"{self.count} services"
        images = "" if self.images == 1 else f", {self.images} images a request"
        return f"{services}{images}{', JPEGs on the GPU' if self.decode_on == 'gpu' else ''}"

    @property
    def per_second(self) -> float:
        return self.images * median([result.per_second for result in self.results])


def _compared(shop: Workshop, checkpoint: Path, device: str) -> Table:
    precision = best_float(device)
    setups = _setups(shop, precision, recorded=device == "cuda")
    groups = [
        [_Row(count, images, clients, decode_on) for images, clients in shop.plan.gpu_requests]
        for count in shop.plan.gpu_services
        for decode_on in (("cpu", "gpu") if device == "cuda" else ("cpu",))
    ]
    forwards: list[BareTime] = []
    engines: dict[str, None] = {}
    assert shop.pictures
    folder, seconds = shop.picture_folder, shop.plan.bare_seconds
    for _ in range(shop.plan.rounds):
        forwards += measure_bare(checkpoint, folder, setups, seconds=seconds, device=device)
        for rows in groups:
            if any(row.reason is not None for row in rows):
                continue
            try:
                _take(shop, checkpoint, device, rows, engines)
            except BenchmarkError as error:
                for row in rows:
                    row.reason = reason(error)
    where = torch.cuda.get_device_name() if device == "cuda" else "the CPU, for want of a GPU"
    table = _table(shop, f"{checkpoint.stem} on {where}", forwards, list(chain(*groups)))
    table.notes.append(f"Engines of the services: {'; '.join(engines) or 'none'}.")
    return table


def _service(shop: Workshop, device: str, index: int, row: _Row) -> Contender:
    """One of `row.count`, with its share of the cores."""
    extra = ["--decode-on", row.decode_on]
    if row.count > 1:
        extra += ["--threads", str(max(shop.plan.gpu_threads, cores() // row.count))]
    name = f"service {index + 1} of {row.count}"
    precision = best_float(device)
    return ours(precision, device=device, engine=shop.options.engine, extra=extra, name=name)


def _engine(server: Server) -> str:
    """What it took, and what it refused before."""
    with urlopen(f"http://{HOST}:{server.port}/models") as answer:
        listed = json.load(answer)
    model = next(each for each in listed["models"] if each["name"] == listed["active"])
    refused = "".join(f"; refused {each}" for each in model["engine"]["refused"])
    return f"{model['engine']['name']}{refused}"


def _take(
    shop: Workshop, checkpoint: Path, device: str, rows: list[_Row], engines: dict[str, None]
) -> None:
    """A result for every row, one after the other, from services that are started once. Each has
    clients of its own, which begin when all are ready."""
    count = rows[0].count
    ready = Barrier(count)

    def turn(index: int) -> list[LoadResult]:
        contender = _service(shop, device, index, rows[0])
        results = []
        try:
            with shop.running(contender, checkpoint) as server:
                engines[_engine(server)] = None
                for row in rows:
                    ready.wait()
                    results.append(
                        shop.load(server, contender, clients=row.clients, images=row.images)
                    )
                ready.wait()  # none is stopped while others are measured
                return results
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
    for row, results in zip(
        rows, zip(*(each.result() for each in turns), strict=True), strict=True
    ):
        whole = LoadResult.joined(list(results))
        whole.seconds = max(result.seconds for result in results)
        row.results.append(whole)


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


def _table(shop: Workshop, title: str, forwards: list[BareTime], rows: list[_Row]) -> Table:
    table = Table(
        title,
        ("", "images/s", "p50 ms", "p99 ms", "share of the forward", "failed"),
        notes=[
            "640x427 JPEG in, PNG out, or JSON with several; services and load generators on "
            f"{cores()} cores. "
            + "; ".join(
                f"{clients} clients for each service, {images} images a request"
                for images, clients in shop.plan.gpu_requests
            )
            + "."
        ],
    )
    for setup in dict.fromkeys(each.setup for each in forwards):
        times = [each.ms for each in forwards if each.setup == setup and each.ms]
        if times:
            bare = 1000 / median(times)
            name = f"forward alone: {setup.name}, batch {setup.batch}"
            table.add(name, number(bare), per_second=bare)
    best = fastest(forwards, tuple({each.setup.precision for each in forwards}))
    for row in rows:
        if row.results and best.ms:
            share = row.per_second * best.ms / 1000
            latencies = (
                median([result.p50_ms for result in row.results]),
                median([result.p99_ms for result in row.results]),
            )
            failed = sum(result.failed for result in row.results)
            cells = [number(row.per_second), *map(number, latencies), number(share, 2)]
            figures = {"services": row.count, "images": row.images, "decode_on": row.decode_on}
            figures |= {"per_second": row.per_second, "share": share}
            table.add(row.name, *cells, str(failed), **figures)
        else:
            table.add(row.name, row.reason or "")
    return table
