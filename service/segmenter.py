"""One upload's way through: decode, queue and device, labels, statistics and mask."""

import asyncio
import base64
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from models.geometry import resize_pixels
from models.manifest import Manifest
from models.tiling import Grid
from models.upsample import Segmentation, segment_probabilities
from service.batcher import Batcher, Flow
from service.budget import Aside, Hold
from service.codec import Codec
from service.engines.engine import is_out_of_memory
from service.errors import EngineFailedError, OverloadedError, TooLargeError
from service.render import indexed_png
from service.schemas import ClassStatistics, Mask, SegmentResponse
from service.stages import Stages
from service.statistics import class_statistics
from service.tiles import TiledImage
from service.upload import Upload, decode, pixel_count

OnImage = Callable[[Stages, list[ClassStatistics]], None]

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
class _Image:
    """A decoded upload: `pixels` uint8 (3, h, w) at the network's input size, or the whole image
    where the network sees it in tiles, and the size of the image that the answer is for."""

    pixels: Tensor
    height: int
    width: int


class Segmenter:
    """One model's: decoding and encoding run in the codec's threads, the network in the batcher's;
    routes only await.

    `on_image` is told of every image's end: its stages, and the classes that were seen, none where
    it failed.
    """

    def __init__(
        self,
        manifest: Manifest,
        batcher: Batcher,
        codec: Codec,
        *,
        on_image: OnImage | None = None,
    ) -> None:
        self.manifest = manifest
        self._on_image = on_image
        self.class_set = manifest.class_set()
        self.batcher = batcher
        self._codec = codec

    async def segment(
        self, upload: Upload, *, image: int = 0, aside: Aside = nullcontext
    ) -> Segmented:
        """`image` is its place among those of the request. Where it has to wait for memory it
        does so in the context `aside`."""
        stages, classes = Stages(image), list[ClassStatistics]()
        try:
            segmented = await self._segment(upload, stages, aside)
            classes = segmented.classes
            return segmented
        finally:
            if self._on_image is not None:
                self._on_image(stages, classes)

    async def _segment(self, upload: Upload, stages: Stages, aside: Aside) -> Segmented:
        """Pixels count against the budget for as long as they are held: until they were resized,
        or in the input mode `tile`, where tiles are cut from them, until the last was run."""
        with self._codec.budget.hold() as hold:
            image = await self._decoded(upload, hold, stages, aside)
            if self.manifest.input.mode == "resize":
                hold.give_back()
            with self.batcher.flow() as flow:
                compute = self._whole if self.manifest.input.mode == "resize" else self._in_tiles
                segmentation = await compute(flow, image, stages)
        if not all(map(math.isfinite, segmentation.confidence.tolist())):
            raise EngineFailedError("the network's answer for this image holds no numbers")
        height, width = image.height, image.width
        del image  # whose pixels count no more
        with stages.timed("encode"):
            png = await self._codec.encoding(
                lambda: indexed_png(segmentation.labels, self.class_set)
            )
        return Segmented(
            model=self.manifest.name,
            width=width,
            height=height,
            classes=class_statistics(segmentation, self.class_set),
            png=png,
            timing_ms=stages.timing_ms(),
        )

    async def _decoded(self, upload: Upload, hold: Hold, stages: Stages, aside: Aside) -> _Image:
        """In one go where there is memory for its pixels, which only its header tells."""
        codec = self._codec
        count = 0

        def at_once() -> _Image | None:
            nonlocal count
            count = pixel_count(upload, max_pixels=codec.max_pixels)
            return self._prepare(upload) if hold.take_now(count) else None

        with stages.timed("decode"), _memory_for("for the image"):
            image = await codec.decoding(at_once)
        if image is not None:
            return image
        with stages.timed("queue"):
            await hold.take(count, aside=aside)
        with stages.timed("decode"), _memory_for("for the image"):
            return await codec.decoding(lambda: self._prepare(upload))

    async def _whole(self, flow: Flow, image: _Image, stages: Stages) -> Segmentation:
        size = image.height, image.width
        answer = await asyncio.wrap_future(flow.submit(image.pixels, size=size))
        stages.add("queue", answer.began - answer.queue_s, answer.began)
        stages.add("device", answer.began, answer.began + answer.device_s)
        if isinstance(answer.found, Segmentation):
            return answer.found
        probabilities = answer.found
        with stages.timed("upsample"), _memory_for("for the classes"):
            return await self._codec.encoding(
                lambda: segment_probabilities(probabilities, *size).cpu()
            )

    async def _in_tiles(self, flow: Flow, image: _Image, stages: Stages) -> Segmentation:
        """A few tiles are on their way at a time: memory follows them, and what the image's bands
        of tiles have in common."""
        tiles = TiledImage(image.pixels, self.manifest, self.batcher.engine.device)
        ahead = 2 * self.batcher.engine.lanes * self.batcher.capacity
        pending = deque(flow.submit(tile) for tile in tiles.cut(ahead))
        first = True
        while pending:
            answer = await asyncio.wrap_future(pending.popleft())
            if first:
                stages.add("queue", answer.began - answer.queue_s, answer.began)
                first = False
            stages.extend("device", answer.began, answer.began + answer.device_s)
            with (
                stages.timed("upsample", further=True),
                _memory_for("for the classes"),
            ):
                following = await self._codec.encoding(
                    partial(tiles.exchange, answer.probabilities)
                )
            del answer
            flow.release()
            pending.extend(flow.submit(tile) for tile in following)
        with stages.timed("upsample", further=True), _memory_for("for the classes"):
            return await self._codec.encoding(lambda: tiles.finish().cpu())

    def _prepare(self, upload: Upload) -> _Image:
        spec = self.manifest.input
        pixels = decode(upload)  # (3, H, W)
        _, height, width = pixels.shape
        if spec.mode == "resize":
            pixels = resize_pixels(pixels, spec.height, spec.width)
        else:
            self._require_affordable(height, width)
        return _Image(pixels, height, width)

    def _require_affordable(self, height: int, width: int) -> None:
        """A line of pixels is few of them and as many tiles as a large photograph: hours of the
        device for a file of a kilobyte."""
        spec = self.manifest.input
        tiles = len(Grid.over(height, width, spec))
        if tiles * spec.height * spec.width > MAX_TILED_SHARE * self._codec.max_pixels:
            raise TooLargeError(
                f"an image of {width}x{height} pixels takes {tiles} tiles of {spec.width}x"
                f"{spec.height}, more than {MAX_TILED_SHARE} times the limit of "
                f"{self._codec.max_pixels} pixels"
            )


@contextmanager
def _memory_for(what: str) -> Iterator[None]:
    """OverloadedError where it does not fit beside the rest."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OverloadedError(
            f"there is no memory {what} at the moment", reason="out_of_memory"
        ) from None
