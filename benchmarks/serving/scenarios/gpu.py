"""The service on a GPU beside the bare batched forward pass there; on the CPU it shows that it
works."""

from pathlib import Path

import torch

from benchmarks.serving.bare import BareTime, Setup, all_setups, fastest, measure_bare
from benchmarks.serving.contenders import Contender, ours
from benchmarks.serving.figures import median
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.machine import cores
from benchmarks.serving.rounds import interleave
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

CLIENTS = 4  # times those of `throughput`: a batch is waiting while another is computed
PRECISION = "bfloat16"


def measure(shop: Workshop) -> list[Table]:
    """The large network, then the carried one."""
    return [_compared(shop, checkpoint) for checkpoint in (shop.resnet, shop.carried)]


def _compared(shop: Workshop, checkpoint: Path) -> Table:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    contender = ours(PRECISION, device=device, engine=shop.options.engine)
    setups = _setups(shop, recorded=device == "cuda")
    assert shop.pictures
    forwards: list[BareTime] = []

    def forward() -> None:
        folder, seconds = shop.picture_folder, shop.plan.bare_seconds
        forwards.extend(measure_bare(checkpoint, folder, setups, seconds=seconds, device=device))

    clients = CLIENTS * shop.plan.clients

    def turn(service: Contender) -> LoadResult:
        with shop.running(service, checkpoint) as server:
            return shop.load(server, service, clients=clients)

    row = interleave([contender], shop.plan.rounds, turn, between=forward)[0]
    where = torch.cuda.get_device_name() if device == "cuda" else "the CPU, for want of a GPU"
    table = Table(
        f"{checkpoint.stem} in {PRECISION} on {where}",
        ("", "images/s", "p50 ms", "p99 ms", "share of the forward"),
        notes=[f"{clients} clients, 640x427 JPEG in, PNG out; the service on {cores()} cores."],
    )
    best = fastest(forwards, (PRECISION,))
    for setup in setups:
        times = [each.ms for each in forwards if each.setup == setup and each.ms]
        if times:
            bare = 1000 / median(times)
            table.add(
                f"forward alone: {setup.name}, batch {setup.batch}", number(bare),
                per_second=bare,
            )  # fmt: skip
    if row.results and best.ms:
        share = row.per_second * best.ms / 1000
        cells = [number(row.per_second), number(row.p50_ms), number(row.p99_ms)]
        table.add("service", *cells, number(share, 2), per_second=row.per_second, share=share)
    else:
        table.add("service", row.reason or "")
    return table


def _setups(shop: Workshop, *, recorded: bool) -> list[Setup]:
    """The network by itself, as users of PyTorch run it, and on CUDA as the service does."""
    batches = shop.plan.gpu_batches
    setups = [
        setup
        for setup in all_setups(batches=batches, compiled=shop.options.compiled)
        if setup.precision == PRECISION
    ]
    if recorded:
        setups += [Setup("torch", PRECISION, batch, recorded=True) for batch in batches]
    return setups
