"""Where a request's time goes: what the processors do for it under load, part by part."""

from pathlib import Path

from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.limit import Limit
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.machine import cores
from benchmarks.serving.process import cpu_s
from benchmarks.serving.rounds import reason
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

TURNS = 2  # at the end of each, cores are idle while the last answers are made
COLUMNS = ("part", "processor ms per request", "share of all cores")


def measure(shop: Workshop) -> list[Table]:
    precision = shop.options.precisions[0]
    return [_profile(shop, checkpoint, precision) for checkpoint in (shop.resnet, shop.carried)]


def _profile(shop: Workshop, checkpoint: Path, precision: str) -> Table:
    contender = shop.service(precision)
    limit = Limit(shop, checkpoint, (precision,))
    limit.survey()
    limit.measure_codec()
    table = Table(
        f"Where a request's time goes: {checkpoint.stem}, {contender.name}, "
        f"{shop.plan.clients} clients",
        COLUMNS,
        notes=[
            "Network: the bare loop's processor time, in turns with the service's. Decode, "
            "classes and encode: by themselves on one core. The rest of the service is what its "
            "processes took beyond these: HTTP, copies, waiting for each other's caches. Idle: no "
            "process had work or a place to run."
        ],
    )
    plan, results, took = shop.plan, list[LoadResult](), 0.0
    try:
        with (
            shop.running(contender, checkpoint) as server,
            limit.at_hand(precision) as forward_ms,
        ):
            warm = shop.load(server, contender, clients=plan.clients)
            # so many that each is answered and counted, whatever it takes: at the end of a time
            # the service would be at others already
            count = max(plan.clients, round(warm.per_second * plan.seconds / TURNS))
            for _ in range(TURNS):
                before = cpu_s(server.pid)
                results.append(shop.load(server, contender, clients=plan.clients, count=count))
                took += cpu_s(server.pid) - before
                forward_ms()
    except BenchmarkError as error:
        table.add(reason(error))
        return table
    result = LoadResult.joined(results)
    request_ms = 1000 / result.per_second
    answered = len(result.latencies_ms)
    service_ms = 1000 * took / answered
    codec, network_ms = limit.codec, limit.forward_cpu_ms(precision)
    known = network_ms + codec.ms + codec.upsample_ms
    generator_ms = 1000 * result.cpu_s / answered
    parts = {
        "network": network_ms,
        "decode and resize to the network's size": codec.decode_ms,
        "classes, counts, confidences at the upload's size": codec.upsample_ms,
        "encode": codec.encode_ms,
        "the rest of the service": service_ms - known,
        "load generator": generator_ms,
        "idle": cores() * request_ms - service_ms - generator_ms,
    }
    for part, ms in parts.items():
        share = ms / (cores() * request_ms)
        table.add(part, number(ms, 2), f"{100 * share:.1f} %", part=part, ms=ms, share=share)
    table.notes.append(f"{number(result.per_second)} requests/s, {number(request_ms, 2)} ms each.")
    return table
