"""One upload's way through: decode, queue and device, statistics and mask."""

import asyncio
import base64
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from models.geometry import resize_pixels
from models.manifest import Manifest
from models.tiling import Grid
from service.batcher import Answer, Batcher
from service.budget import PixelBudget
from service.engine import Unit
from service.errors import TooLargeError
from service.render import indexed_png
from service.schemas import ClassStatistics, Mask, SegmentResponse
from service.statistics import class_statistics
from service.upload import Upload, decode, pixel_count

T = TypeVar("T")

MAX_TILED_SHARE = 4  # pixels of all tiles to those of the largest image: overlap takes two


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


@dataclass(frozen=True)
class _Computed:
    """What the network said, with how long decoding took and memory was waited for."""

    answer: Answer
    decode_s: float
    wait_s: float


class Segmenter:
    """Routes only await; decoding and encoding run in threads, the network in the batcher's."""

    def __init__(
        self,
        manifest: Manifest,
        batcher: Batcher,
        *,
        threads: int,
        max_pixels: int,
        max_waiting: int,
    ) -> None:
        self.manifest = manifest
        self.class_set = manifest.class_set()
        self.batcher = batcher
        self.max_pixels = max_pixels
        # the largest image alone, or several smaller
        self._budget = PixelBudget(max_pixels, max_waiting=max_waiting)
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
        done = await self._compute(upload)
        computed = time.perf_counter()
        segmentation = done.answer.segmentation
        png = await self._in_thread(lambda: indexed_png(segmentation.labels, self.class_set))
        encoded = time.perf_counter()
        height, width = segmentation.labels.shape
        return Segmented(
            model=self.manifest.name,
            width=width,
            height=height,
            classes=class_statistics(segmentation, self.class_set),
            png=png,
            timing_ms={
                "decode": _ms(done.decode_s),
                "queue": _ms(done.wait_s + done.answer.queue_s),
                "device": _ms(done.answer.device_s),
                "encode": _ms(encoded - computed),
                "total": _ms(encoded - began),
            },
        )

    async def _compute(self, upload: Upload) -> _Computed:
        """Pixels count against the budget for as long as they are held: until they were resized,
        or in the input mode `tile`, where the device reads them itself, until it has."""
        began = time.perf_counter()
        count = await self._in_thread(lambda: pixel_count(upload, max_pixels=self.max_pixels))
        asked = time.perf_counter()
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._budget.hold(count))
            granted = time.perf_counter()
            unit = await self._in_thread(lambda: self._prepare(upload))
            decode_s = asked - began + time.perf_counter() - granted
            if self.manifest.input.mode == "resize":
                await held.aclose()
            answer = await _result(self.batcher.submit(unit))
        return _Computed(answer, decode_s, granted - asked)

    async def close(self) -> None:
        """Answers what was accepted: the device first, then the encoding of its answers."""
        await asyncio.to_thread(self.batcher.close)
        while self._running:
            self._idle.clear()
            await self._idle.wait()
        self._threads.shutdown()

    def _prepare(self, upload: Upload) -> Unit:
        spec = self.manifest.input
        pixels = decode(upload, max_pixels=self.max_pixels)  # (3, H, W)
        _, height, width = pixels.shape
        if spec.mode == "resize":
            pixels = resize_pixels(pixels, spec.height, spec.width)
        else:
            self._require_affordable(height, width)
        return Unit(pixels, height, width)

    def _require_affordable(self, height: int, width: int) -> None:
        """A line of pixels is few of them and as many tiles as a large photograph: hours of the
        device for a file of a kilobyte."""
        spec = self.manifest.input
        tiles = len(Grid.over(height, width, spec))
        if tiles * spec.height * spec.width > MAX_TILED_SHARE * self.max_pixels:
            raise TooLargeError(
                f"an image of {width}x{height} pixels takes {tiles} tiles of {spec.width}x"
                f"{spec.height}, more than {MAX_TILED_SHARE} times the limit of "
                f"{self.max_pixels} pixels"
            )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await _result(self._threads.submit(work))


async def _result(future: Future[T]) -> T:
    """What a thread answers. A request that is cancelled meanwhile ends only when no thread works
    for it any more, so that nothing still in use is counted as free."""
    waiting = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if not future.cancel():
            await asyncio.wait([waiting])
        raise
    finally:
        del future, waiting  # in an error's frames they would keep the image from being freed


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
