"""More than can be answered: what becomes of those who are answered, and of the others."""

import time
from collections.abc import Sequence
from statistics import fmean

from benchmarks.serving.charts import draw_overload
from benchmarks.serving.contenders import Contender
from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.process import peak_mib, reset_peak
from benchmarks.serving.rounds import reason
from benchmarks.serving.servers import Server
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

STEPS = (1, 2, 3, 4, 6, 8, 12, 16)
NEAR = 0.98  # of the most that was answered a second: more clients would only wait
FACTORS = (0.5, 0.9, 1.0, 2.0, 4.0)
RECOVERY_S = 2.0


def measure(shop: Workshop) -> list[Table]:
    """At capacity, which is found first, and at multiples of it. Capacity is measured again after
    each, as soon as it has to be back: a machine's speed changes within minutes."""
    plan = shop.plan
    contender = shop.service("auto")
    table = Table(
        f"Requests at a rate, {plan.overload_seconds:g} s each, whatever becomes of earlier ones: "
        f"{shop.carried.stem}",
        (
            "load", "arrivals/s", "answered/s", "of capacity", "p50 ms", "p99 ms",
            "times capacity's", "503", "lost", "peak MiB", "2 s later answered/s", "p99 ms later",
        ),
    )  # fmt: skip
    rows: list[tuple[float, LoadResult, LoadResult]] = []
    try:
        with shop.running(contender, shop.carried) as server:
            clients, before = _capacity(shop, server, contender)
            peak = before.per_second
            for factor in FACTORS:
                reset_peak(server.pid)
                rate = factor * peak
                result = shop.load(
                    server, contender, clients=0, rate=rate, seconds=plan.overload_seconds
                )
                mib = peak_mib(server.pid)
                time.sleep(RECOVERY_S)
                after = shop.load(server, contender, clients=clients, warmup_s=0.0)
                _add(table, factor, rate, result, mib, before, after)
                rows.append((rate, result, after))
                before = after
    except BenchmarkError as error:
        table.add(reason(error))
        return [table]
    table.notes.append(
        f"Latencies count from the moment a request was due. Capacity is what {clients} clients "
        f"are answered, each waiting for its answer: the fewest that reached {NEAR:.0%} of the "
        f"most answers a second ({number(peak)}), measured before and again {RECOVERY_S:g} s after "
        "each load; shares and multiples are of the mean of both. The load generator shares the "
        "processor's cores."
    )
    table.chart = lambda: draw_overload(
        [rate for rate, _, _ in rows],
        [result.per_second for _, result, _ in rows],
        [result.p99_ms for _, result, _ in rows],
        fmean(after.p99_ms for _, _, after in rows),
    )
    return [table]


def _capacity(shop: Workshop, server: Server, contender: Contender) -> tuple[int, LoadResult]:
    steps: Sequence[int] = STEPS
    results = [shop.load(server, contender, clients=step) for step in steps]
    most = max(result.per_second for result in results)
    found = next(i for i, result in enumerate(results) if result.per_second >= NEAR * most)
    return steps[found], results[found]


def _add(
    table: Table,
    factor: float,
    rate: float,
    result: LoadResult,
    mib: float,
    before: LoadResult,
    after: LoadResult,
) -> None:
    refused = result.statuses.get("503", 0)
    lost = result.failed - refused
    share = result.per_second / fmean([before.per_second, after.per_second])
    times = result.p99_ms / fmean([before.p99_ms, after.p99_ms])
    table.add(
        f"{factor:g} times",
        number(rate),
        number(result.per_second),
        f"{share:.0%}",
        number(result.p50_ms, 0),
        number(result.p99_ms, 0),
        number(times),
        str(refused),
        str(lost),
        number(mib, 0),
        number(after.per_second),
        number(after.p99_ms, 0),
        factor=factor,
        rate=rate,
        per_second=result.per_second,
        share=share,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        times=times,
        refused=refused,
        lost=lost,
        statuses=result.statuses,
        peak_mib=mib,
        later_per_second=after.per_second,
        later_p99_ms=after.p99_ms,
        generator_cpu_s=result.cpu_s,
    )
