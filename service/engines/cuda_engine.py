"""PyTorch on NVIDIA's GPUs.

Python's lock is what a GPU waits for: other threads take it between the hundreds of calls that a
pass is made of, and between the few that make an image's answer. A pass is therefore recorded as a
CUDA graph, which one call starts, and the answers of its images are made right behind it and
fetched all at once.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from models import Checkpoint
from models.cuda_segment import can_segment, parts_of_batch, segment_batch
from models.upsample import Segmentation
from service.engines.engine import is_out_of_memory
from service.engines.torch_engine import TorchEngine

logger = logging.getLogger(__name__)

LANES = 2  # one pass is put together, or its answers handed out, while the other is computed
MAX_PIXELS = 1 << 20  # of an image whose answer is fetched with those of its pass: they add up
# PyTorch hands out the same 32 streams of a priority over and over. Passes run on others than they
# are recorded on, or a loaded model's would be caught in the recording of one that is being loaded
RUNNING, RECORDING = -1, 0

Forward = Callable[[Tensor], Tensor]  # uint8 (N, 3, h, w) -> float32 (N, K, h, w), on the device


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
        with self._passed(pixels) as probabilities:
            return _kept(probabilities)

    @torch.inference_mode()
    def segment(
        self, pixels: Tensor, sizes: Sequence[tuple[int, int] | None], *, alone: bool
    ) -> list[Segmentation | Tensor]:
        if not can_segment(self.device):
            return list(self.run(pixels, alone=alone))
        wanted = [size if size and size[0] * size[1] <= MAX_PIXELS else None for size in sizes]
        with self._passed(pixels) as probabilities:
            num_classes = probabilities.shape[1]
            whole = _fetched(segment_batch(probabilities, wanted))
            others = [
                _kept(probabilities[index]) for index, size in enumerate(wanted) if size is None
            ]
        left = iter(others)
        found = parts_of_batch(whole, num_classes, wanted)
        return [next(left) if parts is None else Segmentation(*parts) for parts in found]

    def close(self) -> None:
        for lane in self._lanes:
            lane.recordings.clear()
        super().close()
        torch.cuda.empty_cache()

    @contextmanager
    def _passed(self, pixels: Tensor) -> Iterator[Tensor]:
        """The probabilities of a pass, float32 (N, K, h, w), to be read within the context and by
        what is started there: its end waits for that, and for the pass's errors. The next pass of
        the lane may overwrite them."""
        lane = self._free.get()
        try:
            recording = lane.recordings.get(len(pixels))
            with torch.cuda.stream(lane.stream):
                yield self._forward(pixels) if recording is None else recording.replay(pixels)
            lane.wait()
        finally:
            self._free.put(lane)


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
        stream = torch.cuda.Stream(pixels.device, priority=RECORDING)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(pixels.device))
        with torch.inference_mode(), torch.cuda.stream(stream):
            forward(self._pixels)  # libraries set themselves up for a stream
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # other models answer meanwhile: what their threads do is not to spoil this
            with torch.cuda.graph(
                self._graph, pool=memory, stream=stream, capture_error_mode="thread_local"
            ):
                self._probabilities = forward(self._pixels)
        self.memory = self._graph.pool()

    def replay(self, pixels: Tensor) -> Tensor:
        self._pixels.copy_(pixels, non_blocking=True)
        self._graph.replay()
        return self._probabilities


def _kept(probabilities: Tensor) -> Tensor:
    """A copy, which is read on other threads' streams."""
    copy = probabilities.clone()
    copy.record_stream(torch.cuda.default_stream(copy.device))
    return copy


def _fetched(whole: Tensor) -> Tensor:
    """On the CPU, once the stream has come so far."""
    found = torch.empty(whole.shape, dtype=whole.dtype, pin_memory=True)
    return found.copy_(whole, non_blocking=True)
