"""PyTorch: on CUDA, MPS and the CPU, eager or compiled."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models import Checkpoint
from models.folding import folded
from models.geometry import Normalisation
from service.engines.engine import is_out_of_memory

logger = logging.getLogger(__name__)

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
WARM_UPS = 3

Forward = Callable[[Tensor], Tensor]  # uint8 (N, 3, h, w) -> float32 (N, K, h, w), on the device


class TorchEngine:
    """`precision` is float32, bfloat16 or float16; `compiled` asks for `torch.compile`, which takes
    seconds for every size of a pass and a C++ compiler.

    On CUDA passes of every size that was warmed up are recorded as a CUDA graph: a pass is started
    by one call instead of hundreds, between which other threads would take the interpreter.
    """

    lanes = 1

    def __init__(
        self, checkpoint: Checkpoint, *, device: torch.device, precision: str, compiled: bool
    ) -> None:
        self.name = f"torch {precision}{' compiled' if compiled else ''}"
        self.device = device
        self.precision = precision
        self.spec = checkpoint.manifest.input
        self._dtype = DTYPES[precision]
        # others are held against float32, which is therefore the network as it is
        is_plain = precision == "float32" and not compiled
        network = checkpoint.network if is_plain else folded(checkpoint.network)
        self.network = network.to(device, self._dtype, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._normalised = Normalisation(self.spec, device)
        self._network = torch.compile(self.network, dynamic=False) if compiled else self.network
        self._recordings: dict[int, _Recording] = {}

    def warm_up(self, count: int) -> None:
        blank = torch.zeros(count, 3, self.spec.height, self.spec.width, dtype=torch.uint8)
        for _ in range(WARM_UPS):
            self.run(blank, alone=True)
        if self.device.type == "cuda":
            self._record(blank)

    def forget(self, count: int) -> None:
        self._recordings.pop(count, None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        recording = self._recordings.get(len(pixels))
        answer = recording.replay(pixels) if recording is not None else self._forward(pixels)
        if self.device.type == "cuda":  # its time and its errors are this pass's
            torch.cuda.current_stream(self.device).synchronize()
        return answer

    def close(self) -> None:
        self._recordings.clear()
        del self._network, self.network
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _forward(self, pixels: Tensor) -> Tensor:
        images = self._normalised(pixels.to(self.device, non_blocking=True)).to(self._dtype)
        logits: Tensor = self._network(images.contiguous(memory_format=torch.channels_last))
        return logits.float().softmax(1).contiguous()

    @torch.inference_mode()
    def _record(self, blank: Tensor) -> None:
        count = len(blank)
        torch.cuda.empty_cache()  # a recording has memory of its own
        # one memory for all: they are replayed one at a time, and nothing of them stays in it
        memory = next((each.memory for each in self._recordings.values()), None)
        try:
            self._recordings[count] = _Recording(self._forward, blank.to(self.device), memory)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            logger.warning("passes of %d are not recorded: %s", count, error)


class _Recording:
    """A pass of one size as a CUDA graph, with its own place for what goes in and comes out. What
    it reads beside that is the engine's, and lives as long: nothing is looked up in a replay."""

    def __init__(self, forward: Forward, pixels: Tensor, memory: Any) -> None:
        self._pixels = pixels.contiguous(memory_format=torch.channels_last)
        device = pixels.device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
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
        return self._probabilities.clone()  # the next pass overwrites it
