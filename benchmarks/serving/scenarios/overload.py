"""More than can be answered: what becomes of those who are answered, and of the others."""

import time
from collections.abc import Sequence

from benchmarks.serving.charts import draw_overload
from benchmarks.serving.contenders import Contender
from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.process import peak_mib, reset_peak, resident_mib
from benchmarks.serving.rounds import reason
from benchmarks.serving.servers import Server
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

STEPS = (1, 2, 3, 4, 6, 8, 12, 16)
NEAR = 0.98  # of the most that was answered a second: more clients would only wait
FACTORS = (0.5, 0.9, 1.0, 2.0, 4.0)
RECOVERY_S = 2.0


def measure(shop: Workshop) -> list[Table]:
    """At capacity, which is found first, and at multiples of it."""
    plan = shop.plan
    contender = shop.service("auto")
    table = Table(
        f"Requests at a rate, {plan.overload_seconds:g} s each, whatever becomes of earlier ones: "
        f"{shop.carried.stem}",
        ("load", "arrivals/s", "answered/s", "p50 ms", "p99 ms", "503", "lost", "peak MiB"),
    )
    seen: dict[float, LoadResult] = {}
    try:
        with shop.running(contender, shop.carried) as server:
            clients, capacity = _capacity(shop, server, contender)
            _add(table, f"capacity, {clients} clients", 0.0, capacity, resident_mib(server.pid))
            for factor in FACTORS:
                rate = factor * capacity.per_second
                reset_peak(server.pid)
                seen[rate] = result = shop.load(
                    server, contender, clients=0, rate=rate, seconds=plan.overload_seconds
                )
                _add(table, f"{factor:g} times", rate, result, peak_mib(server.pid))
            time.sleep(RECOVERY_S)
            after = shop.load(server, contender, clients=clients)
            _add(table, f"{RECOVERY_S:g} s later", 0.0, after, resident_mib(server.pid))
    except BenchmarkError as error:
        table.add(reason(error))
        return [table]
    table.notes.append(
        "Latencies count from the moment a request was due. Capacity is the fewest clients, each "
        f"waiting for its answer, that reach {NEAR:.0%} of the most answers a second. The load "
        "generator shares the processor's cores."
    )
    rates, results = list(seen), list(seen.values())
    table.chart = lambda: draw_overload(
        rates,
        [result.per_second for result in results],
        [result.p99_ms for result in results],
        capacity.p99_ms,
    )
    return [table]


def _capacity(shop: Workshop, server: Server, contender: Contender) -> tuple[int, LoadResult]:
    steps: Sequence[int] = STEPS
    results = [shop.load(server, contender, clients=step) for step in steps]
    most = max(result.per_second for result in results)
    found = next(i for i, result in enumerate(results) if result.per_second >= NEAR * most)
    return steps[found], results[found]


def _add(table: Table, load: str, rate: float, result: LoadResult, mib: float) -> None:
    refused = result.statuses.get("503", 0)
    lost = result.failed - refused
    table.add(
        load,
        number(rate) if rate else "",
        number(result.per_second),
        number(result.p50_ms, 0),
        number(result.p99_ms, 0),
        str(refused),
        str(lost),
        number(mib, 0),
        load=load,
        rate=rate,
        per_second=result.per_second,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        refused=refused,
        lost=lost,
        statuses=result.statuses,
        peak_mib=mib,
        generator_cpu_s=result.cpu_s,
    )
