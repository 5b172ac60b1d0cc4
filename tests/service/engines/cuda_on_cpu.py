"""What `CudaEngine` asks of PyTorch's CUDA, on the CPU, where everything is done at once."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from service.engines import cuda_engine


class Stream:
    def __init__(self, device: torch.device, *, priority: int = 0) -> None:
        self.device = device
        self.priority = priority

    def wait_stream(self, other: object) -> None: ...

    def synchronize(self) -> None: ...


class Event:
    """Counts the waits that let a thread sleep."""

    waits = 0

    def __init__(self, *, blocking: bool) -> None:
        assert blocking

    def record(self, stream: Stream) -> None: ...

    def synchronize(self) -> None:
        Event.waits += 1


class Recording:
    """As a CUDA graph: one place for what comes out, which every replay overwrites."""

    made: ClassVar[list[int]] = []

    def __init__(self, forward: Callable[[Tensor], Tensor], pixels: Tensor, memory: Any) -> None:
        self.memory = memory or object()
        self._forward = forward
        self._logits = forward(pixels).clone()
        Recording.made.append(len(pixels))

    def replay(self, pixels: Tensor) -> Tensor:
        return self._logits.copy_(self._forward(pixels))


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """The CPU's tensors count as a GPU's from now on."""

    def on_stream(stream: Stream) -> AbstractContextManager[None]:
        return nullcontext()

    def nothing(*arguments: object) -> None: ...

    Event.waits = 0
    Recording.made.clear()
    for name, made in (
        *(("Stream", Stream), ("Event", Event), ("stream", on_stream)),
        *(("synchronize", nothing), ("empty_cache", nothing), ("default_stream", nothing)),
    ):
        patch.setattr(torch.cuda, name, made)
    patch.setattr(Tensor, "record_stream", nothing)
    patch.setattr(cuda_engine, "_Recording", Recording)
    patch.setattr(cuda_engine, "_fetched", Tensor.clone)
