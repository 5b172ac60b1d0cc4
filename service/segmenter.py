"""One upload's way through: decode, queue and device, statistics and mask."""

import asyncio
import base64
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from models.geometry import resize_pixels
from models.manifest import Manifest
from service.batcher import Batcher
from service.engine import Unit
from service.render import indexed_png
from service.schemas import ClassStatistics, Mask, SegmentResponse
from service.statistics import class_statistics
from service.upload import Upload, decode, pixel_count

T = TypeVar("T")


@dataclass(frozen=True)
class Segmented:
    """Everything an answer is made of, whatever its media type."""

    model: str
    width: int
    height: int
    classes: list[ClassStatistics]
    png: bytes
    timing_ms: dict[str, float]

    def to_response(self) -> SegmentResponse:
        return SegmentResponse(
            model=self.model,
            width=self.width,
            height=self.height,
            classes=self.classes,
            mask=Mask(data=base64.b64encode(self.png).decode()),
            timing_ms=self.timing_ms,
        )


class PixelBudget:
    """How many pixels may be decoded at a time, so that memory follows it and not the threads."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


class Segmenter:
    """Routes only await; decoding and encoding run in threads, the network in the batcher's."""

    def __init__(
        self, manifest: Manifest, batcher: Batcher, *, threads: int, max_pixels: int
    ) -> None:
        self.manifest = manifest
        self.class_set = manifest.class_set()
        self.batcher = batcher
        self.max_pixels = max_pixels
        self._budget = PixelBudget(max_pixels)  # the largest image alone, or several smaller
        self._running = 0
        self._idle = asyncio.Event()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="codec")

    async def segment(self, upload: Upload) -> Segmented:
        self._running += 1
        try:
            return await self._segment(upload)
        finally:
            self._running -= 1
            self._idle.set()

    async def _segment(self, upload: Upload) -> Segmented:
        began = time.perf_counter()
        unit = await self._in_thread(lambda: self._prepare(upload))
        decoded = time.perf_counter()
        answer = await asyncio.wrap_future(self.batcher.submit(unit))
        computed = time.perf_counter()
        segmentation = answer.segmentation
        png = await self._in_thread(lambda: indexed_png(segmentation.labels, self.class_set))
        encoded = time.perf_counter()
        return Segmented(
            model=self.manifest.name,
            width=unit.width,
            height=unit.height,
            classes=class_statistics(segmentation, self.class_set),
            png=png,
            timing_ms={
                "decode": _ms(decoded - began),
                "queue": _ms(answer.queue_s),
                "device": _ms(answer.device_s),
                "encode": _ms(encoded - computed),
                "total": _ms(encoded - began),
            },
        )

    async def close(self) -> None:
        """Answers what was accepted: the device first, then the encoding of its answers."""
        await asyncio.to_thread(self.batcher.close)
        while self._running:
            self._idle.clear()
            await self._idle.wait()
        self._threads.shutdown()

    def _prepare(self, upload: Upload) -> Unit:
        spec = self.manifest.input
        with self._budget.hold(pixel_count(upload, max_pixels=self.max_pixels)):
            pixels = decode(upload, max_pixels=self.max_pixels)  # (3, H, W)
            small = resize_pixels(pixels, spec.height, spec.width)
        return Unit(small, pixels.shape[1], pixels.shape[2])

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
