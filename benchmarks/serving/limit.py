"""What this machine could answer at most: the bare network and the codecs, measured in the same
run as the servers."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.bare import (
    BareTime,
    Setup,
    all_setups,
    bare_process,
    fastest,
    measure_bare,
)
from benchmarks.serving.codec import CodecTime, measure_codec
from benchmarks.serving.figures import median, throughput_limit
from benchmarks.serving.machine import best_float, cores
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop

logger = logging.getLogger(__name__)

# a service that was asked for a precision is held against the fastest that is no less exact
NO_LESS_EXACT = {
    "float32": ("float32",),
    "bfloat16": ("float32", "bfloat16"),
    "auto": ("float32", "bfloat16"),
    "int8": ("float32", "bfloat16", "int8"),
}


class Limit:
    """`survey` looks for each precision's fastest setup, which `at_hand` times again.

    With `alone` only setups of one image at a time count, as for a single client.
    """

    def __init__(
        self, shop: Workshop, checkpoint: Path, precisions: tuple[str, ...], *, alone: bool = False
    ) -> None:
        self.shop = shop
        self.checkpoint = checkpoint
        self.alone = alone
        self.precisions = tuple(p for p in precisions if p in NO_LESS_EXACT)
        self.surveyed: list[BareTime] = []
        self.setups: dict[str, Setup] = {}
        self._forward: dict[Setup, list[float]] = {}
        self._forward_cpu: dict[Setup, list[float]] = {}
        self._codec: list[CodecTime] = []

    def survey(self) -> None:
        plan = self.shop.plan
        setups = all_setups(
            batches=(1,) if self.alone else plan.batches,
            streams=(1,) if self.alone else plan.streams,
            compiled=self.shop.options.compiled,
        )
        wanted = {name for p in self.precisions for name in NO_LESS_EXACT[p]}
        if best_float(self.shop.options.device) == "float32":
            wanted.discard("bfloat16")  # emulated, and far from the fastest
        self.surveyed = self._time([setup for setup in setups if setup.precision in wanted])
        for precision in self.precisions:
            best = fastest(self.surveyed, NO_LESS_EXACT[precision], alone=self.alone)
            if best.ms is not None:
                self.setups[precision] = best.setup

    @contextmanager
    def at_hand(self, precision: str) -> Iterator[Callable[[], float]]:
        """The network ready to be timed in turn with something else: milliseconds of an image,
        NaN where no engine ran."""
        setup = self.setups.get(precision)
        if setup is None:
            yield lambda: math.nan
            return
        with bare_process(self.checkpoint, self.shop.picture_folder) as measure:
            measure([setup], 0.0)  # what it takes to get ready disturbs nobody afterwards

            def forward_ms() -> float:
                rows = measure([setup], self.shop.plan.bare_seconds)
                self._note(rows)
                return rows[0].ms or math.nan

            yield forward_ms

    def measure_codec(self) -> None:
        folder, repeats = self.shop.picture_folder, self.shop.plan.codec_repeats
        self._codec.append(measure_codec(self.checkpoint, folder, repeats=repeats))

    def forward_ms(self, precision: str) -> float:
        """Median over the rounds; NaN where no engine ran."""
        setup = self.setups.get(precision)
        return median(self._forward.get(setup, [])) if setup else median([])

    def forward_cpu_ms(self, precision: str) -> float:
        """Of all processors together."""
        setup = self.setups.get(precision)
        return median(self._forward_cpu.get(setup, [])) if setup else median([])

    @property
    def codec(self) -> CodecTime:
        return CodecTime(
            median([each.decode_ms for each in self._codec]),
            median([each.encode_ms for each in self._codec]),
            median([each.upsample_ms for each in self._codec]),
        )

    def per_second(self, precision: str, *, forward_ms: float | None = None) -> float:
        """With the forward pass as it was just timed, or the median."""
        forward_ms = self.forward_ms(precision) if forward_ms is None else forward_ms
        return throughput_limit(forward_ms, self.codec.ms, cores())

    def _note(self, rows: list[BareTime]) -> None:
        for row in rows:
            if row.ms is not None:
                self._forward.setdefault(row.setup, []).append(row.ms)
                self._forward_cpu.setdefault(row.setup, []).append(row.cpu_ms or 0.0)

    def table(self) -> Table:
        """Every setup that was looked at."""
        table = Table(
            f"The network alone: {self.checkpoint.stem}",
            ("engine", "batch", "streams", "ms per image"),
            notes=["Softmax, resizing and everything else that a server does are not in these."],
        )
        for row in self.surveyed:
            setup = row.setup
            cells = (setup.name, str(setup.batch), str(setup.streams))
            table.add(*cells, row.reason or number(row.ms), setup=str(setup), ms=row.ms)
        return table

    def _time(self, setups: list[Setup]) -> list[BareTime]:
        assert self.shop.pictures
        seconds = self.shop.plan.bare_seconds
        logger.info("%s alone, in %d setups", self.checkpoint.stem, len(setups))
        return measure_bare(self.checkpoint, self.shop.picture_folder, setups, seconds=seconds)
