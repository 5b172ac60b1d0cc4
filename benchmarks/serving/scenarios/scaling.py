"""Throughput and latency against the number of clients; time against the size of an image."""

from benchmarks.serving.charts import draw_scaling, draw_sizes
from benchmarks.serving.contenders import Contender
from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.figures import median, spread
from benchmarks.serving.images import large
from benchmarks.serving.load_job import LoadResult
from benchmarks.serving.request import Photograph
from benchmarks.serving.rounds import reason
from benchmarks.serving.servers import Server
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop


def measure(shop: Workshop) -> list[Table]:
    places = str(2 * max(shop.plan.client_steps))  # for as many clients as there are
    contender = shop.service("auto", extra=("--max-queue", places))
    return [_clients(shop, contender), _sizes(shop, shop.service("auto"))]


def _clients(shop: Workshop, contender: Contender) -> Table:
    table = Table(
        f"From one client to many: {shop.resnet.stem}",
        ("clients", "requests/s", "p50 ms", "p99 ms", "failed"),
        notes=[f"One server; medians of {shop.plan.rounds} rounds through all steps."],
    )
    results: dict[int, list[LoadResult]] = {step: [] for step in shop.plan.client_steps}
    try:
        with shop.running(contender, shop.resnet) as server:
            for _ in range(shop.plan.rounds):
                for step, found in results.items():
                    found.append(shop.load(server, contender, clients=step))
    except BenchmarkError as error:
        table.add("", reason(error))
    for step, found in results.items():
        _add_clients(table, step, found)
    columns = [[row[key] for row in table.records] for key in CLIENT_KEYS]
    table.chart = lambda: draw_scaling(*columns)  # type: ignore[arg-type]
    return table


TURN_MEGAPIXELS = 4  # that a size is asked for at least, before the next has its turn
CLIENT_KEYS = ("clients", "per_second", "p50_ms", "p99_ms")


def _add_clients(table: Table, step: int, found: list[LoadResult]) -> None:
    if not found:
        return
    values = {
        "per_second": median([result.per_second for result in found]),
        "p50_ms": median([result.p50_ms for result in found]),
        "p99_ms": median([result.p99_ms for result in found]),
    }
    failed = sum(result.failed for result in found)
    cells = [number(value) for value in values.values()]
    table.add(str(step), *cells, str(failed), clients=step, **values, failed=failed)


def _sizes(shop: Workshop, contender: Contender) -> Table:
    table = Table(
        f"Images of any size, in tiles: {shop.tiled.stem}",
        ("size", "megapixels", "seconds", "seconds per megapixel", "failed"),
    )
    repeats = shop.plan.size_repeats
    pictures = [
        large(shop.pictures[0], shop.options.work, width, height)
        for width, height in shop.plan.sides
    ]
    try:
        with shop.running(contender, shop.tiled) as server:
            _load(shop, server, contender, pictures[0], 1)  # warm-up
            results: dict[int, list[LoadResult]] = {index: [] for index in range(len(pictures))}
            for _ in range(repeats):
                for index, picture in enumerate(pictures):
                    # one of a small image is over before the processor's caches have it
                    count = max(1, round(TURN_MEGAPIXELS / picture.megapixels))
                    results[index].append(_load(shop, server, contender, picture, count))
            for index, found in results.items():
                _add_size(table, pictures[index], found)
    except BenchmarkError as error:
        table.add("", reason(error))
    costs = [float(str(row["seconds_per_megapixel"])) for row in table.records]
    sizes = [float(str(row["megapixels"])) for row in table.records]
    table.notes.append(
        f"Medians of {repeats} rounds of {TURN_MEGAPIXELS} megapixels or one image each, one "
        "client; the farthest from the median cost of a megapixel is "
        f"{number(100 * spread(costs), 0)} % away from it."
    )
    table.chart = lambda: draw_sizes(sizes, costs)
    return table


def _load(
    shop: Workshop, server: Server, contender: Contender, picture: Photograph, count: int
) -> LoadResult:
    return shop.load(server, contender, clients=1, pictures=[picture], count=count)


def _add_size(table: Table, picture: Photograph, found: list[LoadResult]) -> None:
    seconds = median([latency / 1000 for result in found for latency in result.latencies_ms])
    failed = sum(result.failed for result in found)
    cost = seconds / picture.megapixels
    table.add(
        f"{picture.width}x{picture.height}",
        number(picture.megapixels, 2),
        number(seconds, 2),
        number(cost, 3),
        str(failed),
        megapixels=picture.megapixels,
        seconds=seconds,
        seconds_per_megapixel=cost,
        failed=failed,
    )
