"""One client: how long its answer takes beside what cannot be left out."""

from pathlib import Path

from benchmarks.serving.contenders import Contender
from benchmarks.serving.figures import median
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
    turns, count = shop.plan.latency_turns, shop.plan.latency_requests
    above: dict[str, list[float]] = {}

    def turn(contender: Contender) -> LoadResult:
        """The service and the bare network take turns of a second or two: a machine whose speed
        drifts drifts for both."""
        results = []
        with (
            shop.running(contender, checkpoint) as server,
            limit.at_hand(contender.precision or "float32") as forward_ms,
        ):
            shop.load(server, contender, clients=1, count=count)  # warm-up
            for _ in range(turns):
                result = shop.load(server, contender, clients=1, count=count)
                above.setdefault(contender.name, []).append(result.p50_ms - forward_ms())
                results.append(result)
        return LoadResult.joined(results)

    services = [shop.service(precision) for precision in shop.options.precisions]
    rows = interleave(services, shop.plan.rounds, turn, between=limit.measure_codec)
    table = Table(
        f"One client, 640x427 JPEG in, PNG out: {checkpoint.stem}",
        COLUMNS,
        notes=[
            f"Medians of {shop.plan.rounds} rounds of {turns} turns of {count} requests, with the "
            "fastest engine's forward pass, one image at a time, timed after each of them. What is "
            "above the sum is the median over the turns."
        ],
    )
    for row in rows:
        _add(table, row, limit, median(above.get(row.contender.name, [])))
    return table


def _add(table: Table, row: Turns, limit: Limit, above_forward_ms: float) -> None:
    name = row.contender.name
    if not row.results:
        table.add(name, row.reason or "", server=name, reason=row.reason)
        return
    forward, codec = limit.forward_ms(row.precision), limit.codec
    above = above_forward_ms - codec.ms
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
