"""One client: how long its answer takes beside what cannot be left out."""

from pathlib import Path

from benchmarks.serving.contenders import Contender
from benchmarks.serving.limit import Limit
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.rounds import Turns, interleave
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

COLUMNS = (
    "server", "p50 ms", "p99 ms", "forward ms", "decode ms", "encode ms", "p50 above their sum",
)  # fmt: skip


def measure(shop: Workshop) -> list[Table]:
    return [_compare(shop, checkpoint) for checkpoint in (shop.resnet, shop.carried)]


def _compare(shop: Workshop, checkpoint: Path) -> Table:
    limit = Limit(shop, checkpoint, shop.options.precisions, alone=True)
    limit.survey()
    count = shop.plan.latency_requests

    def turn(contender: Contender) -> LoadResult:
        with shop.running(contender, checkpoint) as server:
            shop.load(server, contender, clients=1, count=max(1, count // 10))  # warm-up
            return shop.load(server, contender, clients=1, count=count)

    services = [shop.service(precision) for precision in shop.options.precisions]
    rows = interleave(services, shop.plan.rounds, turn, between=limit.measure)
    table = Table(
        f"One client, 640x427 JPEG in, PNG out: {checkpoint.stem}",
        COLUMNS,
        notes=[
            f"Medians of {shop.plan.rounds} rounds of {count} requests; forward is the fastest "
            "engine's with one image at a time, in the same rounds."
        ],
    )
    for row in rows:
        _add(table, row, limit)
    return table


def _add(table: Table, row: Turns, limit: Limit) -> None:
    name = row.contender.name
    if not row.results:
        table.add(name, row.reason or "", server=name, reason=row.reason)
        return
    forward, codec = limit.forward_ms(row.precision), limit.codec
    above = row.p50_ms - forward - codec.ms
    table.add(
        name,
        number(row.p50_ms),
        number(row.p99_ms),
        number(forward),
        number(codec.decode_ms, 2),
        number(codec.encode_ms, 2),
        number(above),
        server=name,
        p50_ms=row.p50_ms,
        p99_ms=row.p99_ms,
        forward_ms=forward,
        decode_ms=codec.decode_ms,
        encode_ms=codec.encode_ms,
        above_ms=above,
    )
