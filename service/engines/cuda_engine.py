"""PyTorch on NVIDIA's GPUs.

Python's lock is what a GPU waits for: other threads take it between the hundreds of calls that a
pass is made of, and between the few that make an image's answer. A pass is therefore recorded as a
CUDA graph, which one call starts, and the answers of its images are made right behind it and
fetched all at once.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from models import Checkpoint
from models.cuda_segment import can_segment, parts_of_batch, segment_batch
from service.class_map import ClassMap
from service.engines.cuda_jpeg import decode_resized
from service.engines.cuda_waiting import recording
from service.engines.engine import Jpeg, Unit, is_out_of_memory, stack
from service.engines.torch_engine import TorchEngine

logger = logging.getLogger(__name__)

LANES = 2  # one pass is put together, or its answers handed out, while the other is computed
MAX_PIXELS = 1 << 20  # of an image whose answer is fetched with those of its pass: they add up
# PyTorch hands out the same 32 streams of a priority over and over. Passes run on others than they
# are recorded on, or a loaded model's would be caught in the recording of one that is being loaded
RUNNING, RECORDING = -1, 0

Forward = Callable[[Tensor], Tensor]  # uint8 (N, 3, h, w) -> logits (N, K, h, w), on the device


class CudaEngine(TorchEngine):
    """Passes of every size that was warmed up are recorded."""

    lanes = LANES

    def __init__(
        self, checkpoint: Checkpoint, *, device: torch.device, precision: str, compiled: bool
    ) -> None:
        super().__init__(checkpoint, device=device, precision=precision, compiled=compiled)
        self._lanes = [_Lane(device) for _ in range(LANES)]
        self._free: SimpleQueue[_Lane] = SimpleQueue()
        for lane in self._lanes:
            self._free.put(lane)
        torch.cuda.synchronize(device)  # the lanes' streams do not wait for what made the network

    def warm_up(self, count: int) -> None:
        can_segment(self.device)  # compiles what the first answer would wait for
        super().warm_up(count)
        try:
            for lane in self._lanes:
                lane.record(self._forward, self._blank(count))
        except Exception as error:
            self.forget(count)
            if is_out_of_memory(error):
                raise
            logger.warning("passes of %d are not recorded: %s", count, error)

    def forget(self, count: int) -> None:
        for lane in self._lanes:
            lane.recordings.pop(count, None)
        torch.cuda.empty_cache()

    @torch.inference_mode()
    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        with self._lane() as lane:
            return _kept(self._passed(lane, pixels))

    @torch.inference_mode()
    def segment(
        self, units: Sequence[Unit], sizes: Sequence[tuple[int, int] | None], *, alone: bool
    ) -> list[ClassMap | Tensor | None]:
        with self._lane() as lane:
            pixels, lost = self._loaded(units)
            wanted = [
                size if self._is_answered_at_once(size) and index not in lost else None
                for index, size in enumerate(sizes)
            ]
            logits = self._passed(lane, pixels)
            num_classes = logits.shape[1]
            whole = _fetched(_segmented(logits, wanted)) if any(wanted) else None
            found: list[ClassMap | Tensor | None] = [
                None if size is not None or index in lost else _kept(logits[index])
                for index, size in enumerate(wanted)
            ]
        if whole is not None:
            for index, parts in enumerate(parts_of_batch(whole.numpy(), num_classes, wanted)):
                if parts is not None:
                    found[index] = ClassMap(*parts)
        return found

    @torch.inference_mode()
    def decoded(self, jpegs: Sequence[Jpeg]) -> tuple[Tensor, set[int]]:
        return decode_resized(jpegs, self.spec.height, self.spec.width, self.device)

    def close(self) -> None:
        for lane in self._lanes:
            lane.recordings.clear()
        super().close()
        torch.cuda.empty_cache()

    @contextmanager
    def _lane(self) -> Iterator["_Lane"]:
        """For what is started within the context, whose end waits for it and for its errors."""
        lane = self._free.get()
        try:
            try:
                with torch.cuda.stream(lane.stream):
                    yield lane
            finally:
                lane.wait()  # for what a pass had begun that failed, too: its memory is free now
        finally:
            self._free.put(lane)

    def _loaded(self, units: Sequence[Unit]) -> tuple[Tensor, set[int]]:
        """uint8 (N, 3, h, w) on its way to the device, and which of them are blank because they
        could not be decoded."""
        jpegs = [index for index, unit in enumerate(units) if isinstance(unit, Jpeg)]
        images = [unit for unit in units if isinstance(unit, Tensor)]
        if not jpegs:
            return stack(images, pinned=self.device.type == "cuda"), set()
        decoded, lost = self.decoded([unit for unit in units if isinstance(unit, Jpeg)])
        if not images:
            return decoded, lost
        of_either = iter(decoded), iter(stack(images).to(self.device))
        whole = [next(of_either[isinstance(unit, Tensor)]) for unit in units]
        return torch.stack(whole), {jpegs[place] for place in lost}

    def _passed(self, lane: "_Lane", pixels: Tensor) -> Tensor:
        """Logits (N, K, h, w), which the next pass of the lane may overwrite."""
        recording = lane.recordings.get(len(pixels))
        return self._forward(pixels) if recording is None else recording.replay(pixels)

    def _is_answered_at_once(self, size: tuple[int, int] | None) -> bool:
        return size is not None and size[0] * size[1] <= MAX_PIXELS and can_segment(self.device)


class _Lane:
    """A stream of its own, so that the other lane's work is not waited for, and the passes that
    were recorded for it, by their size."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device, priority=RUNNING)  # type: ignore[no-untyped-call]
        self.recordings: dict[int, _Recording] = {}
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    def record(self, forward: Forward, pixels: Tensor) -> None:
        torch.cuda.empty_cache()  # a recording has memory of its own
        # one memory for all: they are replayed one at a time, and nothing of them stays in it
        memory = next((each.memory for each in self.recordings.values()), None)
        on_device = pixels.to(self.stream.device)
        self.recordings[len(pixels)] = _Recording(forward, on_device, memory)

    def wait(self) -> None:
        """Until all that was started on the stream is done. The thread sleeps meanwhile: a core
        that does nothing but look for the end is missed by those who decode."""
        self._done.record(self.stream)
        self._done.synchronize()


class _Recording:
    """A pass of one size as a CUDA graph, with its own place for what goes in and comes out. What
    it reads beside that is the engine's, and lives as long: nothing is looked up in a replay."""

    def __init__(self, forward: Forward, pixels: Tensor, memory: Any) -> None:
        """`memory` is that of other recordings, or None."""
        self._pixels = pixels.contiguous(memory_format=torch.channels_last)
        stream = _recording_stream(pixels.device)
        stream.wait_stream(torch.cuda.current_stream(pixels.device))
        with recording, torch.inference_mode(), torch.cuda.stream(stream):
            forward(self._pixels)  # libraries set themselves up for a stream
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # other models answer meanwhile: what their threads do is not to spoil this
            with torch.cuda.graph(
                self._graph, pool=memory, stream=stream, capture_error_mode="thread_local"
            ):
                self._logits = forward(self._pixels)
        self.memory = self._graph.pool()

    def replay(self, pixels: Tensor) -> Tensor:
        self._pixels.copy_(pixels, non_blocking=True)
        self._graph.replay()
        return self._logits


@lru_cache
def _recording_stream(device: torch.device) -> Any:
    """Always the same: what decodes JPEGs has one of that priority, too, and keeps it."""
    return torch.cuda.Stream(device, priority=RECORDING)  # type: ignore[no-untyped-call]


def _segmented(logits: Tensor, sizes: Sequence[tuple[int, int] | None]) -> Tensor:
    """`segment_batch` of their softmax."""
    return segment_batch(logits.softmax(1, torch.float32).contiguous(), sizes)


def _kept(logits: Tensor) -> Tensor:
    """A copy, which is read on other threads' streams."""
    copy = logits.clone()
    copy.record_stream(torch.cuda.default_stream(copy.device))
    return copy


def _fetched(whole: Tensor) -> Tensor:
    """On the CPU, once the stream has come so far."""
    found = torch.empty(whole.shape, dtype=whole.dtype, pin_memory=True)
    return found.copy_(whole, non_blocking=True)
