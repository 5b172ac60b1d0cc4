"""What the batcher asks of whatever runs the network."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from models.upsample import Segmentation


class Engine(Protocol):
    """Runs one checkpoint's network on one device. Made ready by its constructor; up to `lanes`
    threads may be in `run` at a time."""

    name: str
    precision: str
    device: torch.device
    lanes: int

    def warm_up(self, count: int) -> None:
        """Prepares passes of `count` images; the first of them would pay for it otherwise."""

    def forget(self, count: int) -> None:
        """Frees what only passes of `count` images need."""

    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        """uint8 (N, 3, h, w) on the CPU -> softmax probabilities, float32 (N, K, h, w) on
        `device`. `alone` says that no other pass is running, so that this one may take every
        core."""

    def close(self) -> None:
        """Frees what the garbage collector would not."""


@runtime_checkable
class SegmentingEngine(Engine, Protocol):
    """Makes the answers for images as well, where the probabilities lie."""

    def segment(
        self, pixels: Tensor, sizes: Sequence[tuple[int, int] | None], *, alone: bool
    ) -> list[Segmentation | Tensor]:
        """As `run`, and for an image whose (height, width) is given its segmentation, on the CPU,
        instead of its probabilities (K, h, w): where the engine finds that worthwhile."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller pass could succeed; every runtime has its own words for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("out of memory", "can't allocate memory", "bad_alloc")
    )
