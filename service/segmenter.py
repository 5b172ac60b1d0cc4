"""One upload's way through: decode, queue and device, labels, statistics and mask."""

import asyncio
import base64
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from torch import Tensor

from models.geometry import resize_pixels
from models.grid import Grid
from models.manifest import Manifest
from service.batcher import Answer, Batcher, Flow
from service.budget import Aside, Hold
from service.class_map import ClassMap
from service.codec import Codec
from service.engines.engine import Jpeg, UndecodedError, Unit, is_out_of_memory
from service.errors import EngineFailedError, OverloadedError, TooLargeError
from service.render import indexed_png
from service.schemas import ClassStatistics, Mask, SegmentResponse
from service.stages import Stages
from service.statistics import class_statistics
from service.tiles import TiledImage
from service.upload import Header, Upload, decode, read_header, read_plain_jpeg

T = TypeVar("T")
OnImage = Callable[[Stages, list[ClassStatistics]], None]

MAX_LEFT_PIXELS = 1 << 25  # of a JPEG that the engine decodes: nothing bounds its memory otherwise
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
    """A decoded upload: uint8 (3, h, w) at the network's input size, or the whole image where the
    network sees it in tiles; or a JPEG for the engine to decode. And the size of the image that the
    answer is for."""

    unit: Unit
    height: int
    width: int


class Segmenter:
    """One model's: decoding and encoding run in the codec's threads, the network in the batcher's;
    routes only await.

    `decodes_on_device` leaves JPEGs to the engine, which is a DecodingEngine then.
    `on_image` is told of every image's end: its stages, and the classes that were seen, none where
    it failed.
    """

    def __init__(
        self,
        manifest: Manifest,
        batcher: Batcher,
        codec: Codec,
        *,
        decodes_on_device: bool = False,
        on_image: OnImage | None = None,
    ) -> None:
        self.manifest = manifest
        self._on_image = on_image
        self.class_set = manifest.class_set()
        self.batcher = batcher
        self._codec = codec
        # tiles are cut from pixels in the CPU's memory
        self._leaves_jpegs = decodes_on_device and manifest.input.mode == "resize"

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
        try:
            return await self._computed(upload, stages, aside, leaves_jpegs=self._leaves_jpegs)
        except UndecodedError:  # it may be broken, or of a kind that only the engine does not know
            return await self._computed(upload, stages, aside, leaves_jpegs=False)

    async def _computed(
        self, upload: Upload, stages: Stages, aside: Aside, *, leaves_jpegs: bool
    ) -> Segmented:
        """Pixels count against the budget for as long as they are held: until they were resized,
        or in the input mode `tile`, where tiles are cut from them, until the last was run."""
        with ExitStack() as entered, self._codec.budget.hold() as hold:
            opened = partial(self._opened, upload, hold, stages, aside)
            if self.manifest.input.mode == "tile":
                image = await opened(self._codec.decoding)
                with self.batcher.flow() as flow:
                    class_map = await self._in_tiles(flow, image, stages)
                del image
                hold.give_back()
                return await self._codec.encoding(lambda: self._segmented(class_map, stages))

            def submit(image: _Image) -> Future[Answer]:
                hold.give_back()
                flow = entered.enter_context(self.batcher.flow())
                return flow.submit(image.unit, size=(image.height, image.width))

            # nothing is kept here: threads free their tensors, see `ClassMap`
            finish = partial(self._finish, stages)
            jpeg = self._left(upload, stages) if leaves_jpegs else None
            if jpeg is not None:
                return await self._codec.encoding_result(submit(jpeg), finish)
            return await opened(partial(self._codec.relay, submit=submit, encode=finish))

    def _left(self, upload: Upload, stages: Stages) -> _Image | None:
        """A JPEG as it is, for the engine to decode."""
        with stages.timed("decode"):
            plain = read_plain_jpeg(upload, max_pixels=self._codec.max_pixels)
        if plain is None or plain.pixels > MAX_LEFT_PIXELS:
            return None
        jpeg = Jpeg(upload.content, plain.height, plain.width)
        return _Image(jpeg, plain.height, plain.width)

    async def _opened(
        self,
        upload: Upload,
        hold: Hold,
        stages: Stages,
        aside: Aside,
        opening: Callable[[Callable[[], _Image]], Awaitable[T]],
    ) -> T:
        """`opening` the image, which it is told how to decode: in one go where there is memory for
        its pixels, which only its header tells."""

        def at_once() -> _Image:
            with stages.timed("decode", further=True), _memory_for("for the image"):
                header = read_header(upload, max_pixels=self._codec.max_pixels)
                if not hold.take_now(header.pixels):
                    raise _NoRoomError(header)
                return self._prepare(upload, header)

        try:
            return await opening(at_once)
        except _NoRoomError as error:
            header = error.header
        with stages.timed("queue"):
            await hold.take(header.pixels, aside=aside)

        def in_turn() -> _Image:
            with stages.timed("decode"), _memory_for("for the image"):
                return self._prepare(upload, header)

        return await opening(in_turn)

    def _finish(self, stages: Stages, answer: Answer) -> Segmented:
        """What the network saw whole."""
        stages.add("queue", answer.began - answer.queue_s, answer.began)
        stages.add("device", answer.began, answer.began + answer.device_s)
        found = answer.found
        if isinstance(found, Tensor):
            assert answer.size is not None
            with stages.timed("upsample"), _memory_for("for the classes"):
                found = ClassMap.chosen(found, *answer.size)
        return self._segmented(found, stages)

    async def _in_tiles(self, flow: Flow, image: _Image, stages: Stages) -> ClassMap:
        """A few tiles are on their way at a time: memory follows them, and what the image's bands
        of tiles have in common."""
        assert isinstance(image.unit, Tensor)
        with _memory_for("for the classes"):
            tiles = TiledImage(image.unit, self.manifest, self.batcher.engine.device)
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
                following = await self._codec.encoding(partial(tiles.exchange, answer.logits))
            del answer
            flow.release()
            pending.extend(flow.submit(tile) for tile in following)
        with stages.timed("upsample", further=True), _memory_for("for the classes"):
            return await self._codec.encoding(lambda: ClassMap.of(tiles.finish()))

    def _segmented(self, found: ClassMap, stages: Stages) -> Segmented:
        if not all(map(math.isfinite, found.confidence.tolist())):
            raise EngineFailedError("the network's answer for this image holds no numbers")
        height, width = found.labels.shape
        with stages.timed("encode"):
            png = indexed_png(found.labels, self.class_set)
        return Segmented(
            model=self.manifest.name,
            width=width,
            height=height,
            classes=class_statistics(found, self.class_set),
            png=png,
            timing_ms=stages.timing_ms(),
        )

    def _prepare(self, upload: Upload, header: Header) -> _Image:
        spec = self.manifest.input
        pixels = decode(upload, header)  # (3, H, W)
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


class _NoRoomError(Exception):
    """For its pixels, of an image with this header."""

    def __init__(self, header: Header) -> None:
        super().__init__(header)
        self.header = header


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
