"""Resident memory: over thousands of requests of mixed sizes, over changes of the model, and
while a very large image is answered.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.serving.contenders import Contender
from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.figures import growth
from benchmarks.serving.images import large, mixed
from benchmarks.serving.post import post_change
from benchmarks.serving.process import peak_mib, reset_peak, resident_mib
from benchmarks.serving.rounds import reason
from benchmarks.serving.servers import Server
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

CLIENTS = 4
SETTLED = 500  # requests after which memory is expected to stay as it is


def measure(shop: Workshop) -> list[Table]:
    contender = shop.service("auto")
    return [
        _over_requests(shop, contender),
        _over_swaps(shop, shop.service("auto", is_guarded=True)),
        _while_large(shop, contender),
    ]


def _over_requests(shop: Workshop, contender: Contender) -> Table:
    plan = shop.plan
    pictures = mixed(shop.pictures, shop.options.work / "mixed")
    table = Table(
        f"Resident memory over {plan.memory_requests} requests of 32x32 to 1600x1200 in "
        f"{len({picture.media_type for picture in pictures})} formats: {shop.carried.stem}",
        ("requests", "MiB", "failed"),
    )
    seen: list[float] = []
    try:
        with shop.running(contender, shop.carried) as server:
            table.add("0", number(resident_mib(server.pid), 0))
            for done in range(plan.memory_step, plan.memory_requests + 1, plan.memory_step):
                result = shop.load(
                    server, contender, clients=CLIENTS, pictures=pictures, count=plan.memory_step
                )
                held = resident_mib(server.pid)
                seen.append(held)
                cells = (str(done), number(held, 0), str(result.failed))
                table.add(*cells, requests=done, mib=held, failed=result.failed)
    except BenchmarkError as error:
        table.add(reason(error))
    settled = seen[_settled_at(plan.memory_step) :]
    gained = growth(settled)
    found = f"{100 * gained:.1f} %" if len(settled) > 1 else "not known from so few requests"
    table.notes.append(f"Growth after the first {SETTLED} requests: {found}.")
    table.records.append({"growth": gained})
    return table


def _over_swaps(shop: Workshop, contender: Contender) -> Table:
    plan = shop.plan
    table = Table(
        f"Resident memory over {plan.swaps} changes of the model, under load: {shop.carried.stem}",
        ("swaps", "MiB", "s each", "requests", "failed"),
        notes=["Each loads a model, makes it the active one and unloads the other."],
    )
    models: tuple[str, ...] = (shop.twin.stem, shop.carried.stem)
    seen: list[float] = []
    try:
        with shop.running(contender, shop.carried) as server:
            table.add("0", number(resident_mib(server.pid), 0))
            for done in range(plan.swap_step, plan.swaps + 1, plan.swap_step):
                each_s, failed = _swap_under_load(shop, server, contender, models)
                models = models[:: -1 if plan.swap_step % 2 else 1]
                held = resident_mib(server.pid)
                seen.append(held)
                cells = (str(done), number(held, 0), number(each_s, 2), str(plan.swap_requests))
                table.add(*cells, str(failed), swaps=done, mib=held, each_s=each_s, failed=failed)
    except BenchmarkError as error:
        table.add(reason(error))
    gained = growth(seen)
    found = f"{100 * gained:.1f} %" if len(seen) > 1 else "not known from so few swaps"
    table.notes.append(f"Growth after the first {plan.swap_step} swaps: {found}.")
    table.records.append({"growth": gained})
    return table


def _swap_under_load(
    shop: Workshop, server: Server, contender: Contender, models: tuple[str, ...]
) -> tuple[float, int]:
    """A step of swaps, to `models` in turn: the seconds that each took, and the requests that
    failed meanwhile."""
    plan = shop.plan
    with ThreadPoolExecutor(1) as beside:
        load = beside.submit(
            shop.load, server, contender, clients=CLIENTS, count=plan.swap_requests
        )
        began = time.perf_counter()
        for turn in range(plan.swap_step):
            post_change(server.port, models[turn % 2], "activate", contender.key)
            post_change(server.port, models[1 - turn % 2], "unload", contender.key)
        each_s = (time.perf_counter() - began) / plan.swap_step
        return each_s, load.result().failed


def _settled_at(step: int) -> int:
    """Index of the figure after `SETTLED` requests."""
    return max(0, -(-SETTLED // step) - 1)


def _while_large(shop: Workshop, contender: Contender) -> Table:
    side = shop.plan.large_side
    picture = large(shop.pictures[0], shop.options.work, side, side)
    table = Table(
        f"Peak of resident memory while a JPEG of {side}x{side} is answered",
        ("checkpoint", "idle MiB", "peak MiB", "above idle MiB", "seconds", "failed"),
    )
    for checkpoint in (shop.carried, shop.tiled):
        try:
            with shop.running(contender, checkpoint) as server:
                shop.load(server, contender, clients=1, count=len(shop.pictures))  # no first time
                idle = resident_mib(server.pid)
                reset_peak(server.pid)
                result = shop.load(server, contender, clients=1, pictures=[picture], count=1)
                _add_peak(table, checkpoint, idle, peak_mib(server.pid), result.seconds,
                          result.failed)  # fmt: skip
        except BenchmarkError as error:
            table.add(checkpoint.stem, reason(error), checkpoint=checkpoint.stem)
    return table


def _add_peak(
    table: Table, checkpoint: Path, idle: float, peak: float, seconds: float, failed: int
) -> None:
    table.add(
        checkpoint.stem,
        number(idle, 0),
        number(peak, 0),
        number(peak - idle, 0),
        number(seconds),
        str(failed),
        checkpoint=checkpoint.stem,
        idle_mib=idle,
        peak_mib=peak,
        seconds=seconds,
        failed=failed,
    )
