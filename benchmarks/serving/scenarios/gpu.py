"""Services that share a GPU beside the bare batched forward pass there; on the CPU it shows that it
works.

One process is held back by Python's lock, of which every request needs a millisecond or two, long
before a GPU is: several of them, as behind a proxy, show what the card and the cores can do.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import Barrier
from urllib.request import urlopen

import torch

from benchmarks.serving import mps
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

logger = logging.getLogger(__name__)

MPS_SAYS = "The services run under NVIDIA's MPS."
DECODED_ON = {"cpu": "", "gpu": ", JPEGs on the GPU", "half": ", JPEGs of half of them on the GPU"}


def measure(shop: Workshop) -> list[Table]:
    """The large networks; without a GPU the carried one, to show that it works."""
    if torch.cuda.is_available():
        return [_compared(shop, checkpoint, "cuda") for checkpoint in (shop.resnet, shop.unet)]
    return [_compared(shop, shop.carried, "cpu")]


@dataclass(frozen=True)
class _Place:
    """Where services run, and in which environment."""

    device: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Row:
    """So many services at a time, asked for so many images in a request; `decode_on` is theirs, or
    `half` where they differ in it."""

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
        return f"{services}{images}{DECODED_ON[self.decode_on]}"

    @property
    def per_second(self) -> float:
        return self.images * median([result.per_second for result in self.results])


def _compared(shop: Workshop, checkpoint: Path, device: str) -> Table:
    precision = best_float(device)
    setups = _setups(shop, precision, recorded=device == "cuda")
    groups = [
        [_Row(count, images, clients, decode_on) for images, clients in shop.plan.gpu_requests]
        for count in shop.plan.gpu_services
        for decode_on in (DECODED_ON if device == "cuda" else ("cpu",))
        if count > 1 or decode_on != "half"
    ]
    forwards: list[BareTime] = []
    notes: dict[str, None] = {}
    assert shop.pictures
    folder, seconds = shop.picture_folder, shop.plan.bare_seconds
    for _ in range(shop.plan.rounds):
        forwards += measure_bare(checkpoint, folder, setups, seconds=seconds, device=device)
        with _side_by_side(shop, device, notes) as place:
            for rows in groups:
                if any(row.reason is not None for row in rows):
                    continue
                try:
                    _take(shop, checkpoint, place, rows, notes)
                except BenchmarkError as error:
                    for row in rows:
                        row.reason = reason(error)
    where = torch.cuda.get_device_name() if device == "cuda" else "the CPU, for want of a GPU"
    table = _table(shop, f"{checkpoint.stem} on {where}", forwards, list(chain(*groups)))
    table.notes += notes
    return table


@contextmanager
def _side_by_side(shop: Workshop, device: str, notes: dict[str, None]) -> Iterator[_Place]:
    """On the device, where kernels of several services run side by side if that is possible;
    `notes` are told, once each and in order."""
    place = _Place(device)
    with ExitStack() as stack:
        if device == "cuda" and mps.is_there():
            try:
                place = _Place(device, stack.enter_context(mps.mps(shop.options.work / "mps")))
                notes[MPS_SAYS] = None
            except BenchmarkError as error:
                logger.warning("%s", error)
        yield place


def _service(shop: Workshop, place: _Place, index: int, row: _Row) -> Contender:
    """One of `row.count`, with its share of the cores and a place for each of its clients."""
    places = max(clients for _, clients in shop.plan.gpu_requests)
    decode_on = ("cpu", "gpu")[index % 2] if row.decode_on == "half" else row.decode_on
    extra = ["--decode-on", decode_on, "--max-queue", str(places)]
    if row.count > 1:
        extra += ["--threads", str(max(shop.plan.gpu_threads, cores() // row.count))]
    name = f"service {index + 1} of {row.count}"
    # on the CPU what the forward runs on, or the shares would say nothing
    engine = shop.options.engine or ("torch" if place.device == "cpu" else None)
    return ours(
        best_float(place.device),
        device=place.device,
        engine=engine,
        extra=extra,
        environment=place.environment,
        name=name,
    )


def _engine(server: Server) -> str:
    """What it took, and what it refused before."""
    with urlopen(f"http://{HOST}:{server.port}/models") as answer:
        listed = json.load(answer)
    model = next(each for each in listed["models"] if each["name"] == listed["active"])
    refused = "".join(f"; refused {each}" for each in model["engine"]["refused"])
    return f"{model['engine']['name']}{refused}"


def _take(
    shop: Workshop, checkpoint: Path, place: _Place, rows: list[_Row], notes: dict[str, None]
) -> None:
    """A result for every row, one after the other, from services that are started once. Each has
    clients of its own, which begin when all are ready."""
    count = rows[0].count
    ready = Barrier(count)

    def turn(index: int) -> list[LoadResult]:
        contender = _service(shop, place, index, rows[0])
        results = []
        try:
            with shop.running(contender, checkpoint) as server:
                notes[f"Engine of the services: {_engine(server)}."] = None
                for row in rows:
                    ready.wait()
                    result = shop.load(
                        server,
                        contender,
                        clients=row.clients,
                        images=row.images,
                        seconds=shop.plan.gpu_seconds,
                    )
                    results.append(result)
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
        ("", "images/s", "p50 ms", "p99 ms", "share of the forward", "of the eager", "failed"),
        notes=[
            "640x427 JPEG in, PNG out, or JSON with several; services and load generators on "
            f"{cores()} cores. Images a request and clients of each service: "
            + ", ".join(f"{images} and {clients}" for images, clients in shop.plan.gpu_requests)
            + "."
        ],
    )
    for setup in dict.fromkeys(each.setup for each in forwards):
        times = [each.ms for each in forwards if each.setup == setup and each.ms]
        if times:
            bare = 1000 / median(times)
            name = f"forward alone: {setup.name}, batch {setup.batch}"
            table.add(name, number(bare), per_second=bare)
    precisions = tuple({each.setup.precision for each in forwards})
    best = fastest(forwards, precisions)
    eager = fastest([each for each in forwards if not each.setup.recorded], precisions)
    for row in rows:
        if row.results and best.ms and eager.ms:
            shares = [row.per_second * ms / 1000 for ms in (best.ms, eager.ms)]
            latencies = (
                median([result.p50_ms for result in row.results]),
                median([result.p99_ms for result in row.results]),
            )
            failed = sum(result.failed for result in row.results)
            cells = [*map(number, (row.per_second, *latencies))]
            cells += [number(share, 2) for share in shares]
            figures = {"services": row.count, "images": row.images, "decode_on": row.decode_on}
            figures |= {"per_second": row.per_second, "share": shares[0], "of_eager": shares[1]}
            table.add(row.name, *cells, str(failed), **figures)
        else:
            table.add(row.name, row.reason or "")
    return table
