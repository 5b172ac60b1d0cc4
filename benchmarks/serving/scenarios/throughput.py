"""Many clients at once: the service beside the machine's limit and beside the peers."""

from pathlib import Path

from benchmarks.serving.charts import draw_bars
from benchmarks.serving.contenders import Contender
from benchmarks.serving.figures import median
from benchmarks.serving.limit import Limit
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.machine import cores
from benchmarks.serving.rounds import Turns, interleave
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

COLUMNS = (
    "server", "requests/s", "p50 ms", "p99 ms", "limit", "share of the limit", "times best peer",
    "failed",
)  # fmt: skip
AGAIN_S = 1.0  # of warm-up after the service was idle for as long as the bare network ran

Shares = dict[str, list[float]]  # of the limit, by the contender's name


def measure(shop: Workshop) -> list[Table]:
    """The large network with the peers, then the carried one, whose surroundings weigh more."""
    tables = []
    for checkpoint, rivals in ((shop.resnet, shop.peers()), (shop.carried, [])):
        services = [shop.service(precision) for precision in shop.options.precisions]
        tables += compare(shop, checkpoint, services, rivals)
    return tables


def compare(
    shop: Workshop, checkpoint: Path, services: list[Contender], rivals: list[Contender]
) -> list[Table]:
    limit = Limit(shop, checkpoint, shop.options.precisions)
    limit.survey()
    shares: Shares = {}

    def turn(contender: Contender) -> LoadResult:
        """The service and the bare network take turns of some seconds: a machine whose speed drifts
        drifts for both."""
        if _is_rival(contender):  # who has no share, and would still be at what nobody waits for
            with shop.running(contender, checkpoint) as server:
                return shop.load(server, contender, clients=shop.plan.clients)
        precision, plan = contender.precision or "", shop.plan
        results: list[LoadResult] = []
        with (
            shop.running(contender, checkpoint) as server,
            limit.at_hand(precision) as forward_ms,
        ):
            for _ in range(plan.throughput_turns):
                result = shop.load(
                    server,
                    contender,
                    clients=plan.clients,
                    seconds=plan.seconds / plan.throughput_turns,
                    warmup_s=AGAIN_S if results else plan.warmup_s,
                )
                most = limit.per_second(precision, forward_ms=forward_ms())
                shares.setdefault(contender.name, []).append(result.per_second / most)
                results.append(result)
        return LoadResult.joined(results)

    contenders = [*services, *rivals]
    rows = interleave(contenders, shop.plan.rounds, turn, between=limit.measure_codec)
    return [_table(shop, checkpoint, rows, limit, shares), limit.table()]


def _table(
    shop: Workshop, checkpoint: Path, rows: list[Turns], limit: Limit, shares: Shares
) -> Table:
    plan, codec = shop.plan, limit.codec
    table = Table(
        f"{plan.clients} clients, 640x427 JPEG in, PNG out: {checkpoint.stem}",
        COLUMNS,
        notes=[
            f"Medians of {plan.rounds} rounds of {plan.seconds:g} s after {plan.warmup_s:g} s of "
            "warm-up; in every round each server is started, asked and stopped in turn, so the "
            "others are stopped, not idle. The service's seconds are divided into "
            f"{plan.throughput_turns}, with {AGAIN_S:g} s of warm-up again before each, and the "
            "fastest engine's bare forward pass after it: the share of the limit is the median "
            "over these, with the forward pass as it was just then.",
            f"limit = 1 / (forward + (decode + encode) / {cores()} cores): decode "
            f"{number(codec.decode_ms, 2)} ms, encode {number(codec.encode_ms, 2)} ms, forward "
            f"{_forwards(limit)}.",
        ],
    )
    best = max(
        (row.per_second for row in rows if _is_rival(row.contender) and row.results), default=None
    )
    for row in rows:
        _add(table, row, limit, best, shares)
    drawn = [row for row in rows if row.results]
    title = f"{checkpoint.stem}, {plan.clients} clients"
    if len(drawn) > 1:
        table.chart = lambda: draw_bars(
            title,
            [row.contender.name for row in drawn],
            [row.per_second for row in drawn],
            [not _is_rival(row.contender) for row in drawn],
        )
    return table


def _add(table: Table, row: Turns, limit: Limit, best_peer: float | None, shares: Shares) -> None:
    name = row.contender.name
    if not row.results:
        table.add(name, row.reason or "", server=name, reason=row.reason)
        return
    most = median([]) if _is_rival(row.contender) else limit.per_second(row.precision)
    share = median(shares.get(name, []))
    times = row.per_second / best_peer if best_peer and not _is_rival(row.contender) else None
    table.add(
        name,
        number(row.per_second),
        number(row.p50_ms, 0),
        number(row.p99_ms, 0),
        number(most),
        number(share, 2),
        number(times, 2),
        str(row.failed) + (f" ({row.reason})" if row.reason else ""),
        server=name,
        per_second=row.per_second,
        p50_ms=row.p50_ms,
        p99_ms=row.p99_ms,
        limit_per_second=most,
        share=share,
        shares=shares.get(name, []),
        times_best_peer=times,
        failed=row.failed,
        rounds=[result.per_second for result in row.results],
        generator_cpu_s=[result.cpu_s for result in row.results],
    )


def _forwards(limit: Limit) -> str:
    parts = []
    for precision, setup in limit.setups.items():
        how = f"{setup.engine} {setup.precision}, batch {setup.batch}, streams {setup.streams}"
        parts.append(f"{number(limit.forward_ms(precision), 2)} ms for {precision} ({how})")
    return "; ".join(parts) or "not known"


def _is_rival(contender: Contender) -> bool:
    return contender.precision is None
