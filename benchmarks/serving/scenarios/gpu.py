"""The service on a GPU beside the bare batched forward pass there; on the CPU it shows that it
works."""

import torch

from benchmarks.serving.bare import BareTime, all_setups, fastest, measure_bare
from benchmarks.serving.contenders import Contender, ours
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.rounds import interleave
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

CLIENTS = 4  # times those of `throughput`: a batch is waiting while another is computed
PRECISION = "bfloat16"


def measure(shop: Workshop) -> list[Table]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    contender = ours(PRECISION, device=device, engine=shop.options.engine)
    batches = shop.plan.gpu_batches
    setups = [
        setup
        for setup in all_setups(batches=batches, compiled=shop.options.compiled)
        if setup.precision == PRECISION
    ]
    assert shop.pictures
    forwards: list[BareTime] = []

    def forward() -> None:
        forwards.extend(
            measure_bare(
                shop.resnet, shop.picture_folder, setups,
                seconds=shop.plan.bare_seconds, device=device,
            )
        )  # fmt: skip

    def turn(service: Contender) -> LoadResult:
        with shop.running(service, shop.resnet) as server:
            return shop.load(server, service, clients=CLIENTS * shop.plan.clients)

    row = interleave([contender], shop.plan.rounds, turn, between=forward)[0]
    where = torch.cuda.get_device_name() if device == "cuda" else "the CPU, for want of a GPU"
    table = Table(
        f"{shop.resnet.stem} in {PRECISION} on {where}",
        ("", "images/s", "p50 ms", "p99 ms", "share of the forward"),
        notes=[f"Best batch of {batches}; {CLIENTS * shop.plan.clients} clients."],
    )
    best = fastest(forwards, (PRECISION,))
    bare = 1000 / best.ms if best.ms else None
    table.add(f"forward alone, batch {best.setup.batch}", number(bare), per_second=bare)
    if row.results and bare:
        cells = [number(row.per_second), number(row.p50_ms), number(row.p99_ms)]
        share = row.per_second / bare
        table.add("service", *cells, number(share, 2), per_second=row.per_second, share=share)
    else:
        table.add("service", row.reason or "")
    return [table]
