"""What the batcher asks of whatever runs the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from service.class_map import ClassMap


@dataclass(frozen=True)
class Jpeg:
    """A whole image that is still to be decoded, which was found plain (`models.plain_jpeg`): as it
    was sent, and its size."""

    content: bytes
    height: int
    width: int


Unit = Tensor | Jpeg  # uint8 (3, h, w), all of one batcher of the same size


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
        """uint8 (N, 3, h, w) on the CPU -> logits (N, K, ~h, ~w) on `device`, as
        `SegmentationNetwork.native_logits`, in whatever precision and order in memory the network
        leaves them.
        `alone` says that no other pass is running, so that this one may take every core."""

    def close(self) -> None:
        """Frees what the garbage collector would not."""


@runtime_checkable
class SegmentingEngine(Engine, Protocol):
    """Makes the answers for images as well, where the logits lie."""

    def segment(
        self, units: Sequence[Unit], sizes: Sequence[tuple[int, int] | None], *, alone: bool
    ) -> list[ClassMap | Tensor | None]:
        """Logits (K, h, w) as `run` has them, and for an image whose (height, width) is
        given its class map instead: where the engine finds that worthwhile. None for a JPEG that
        it could not decode."""


@runtime_checkable
class DecodingEngine(SegmentingEngine, Protocol):
    """Its units may be JPEGs."""

    def decoded(self, jpegs: Sequence[Jpeg]) -> tuple[Tensor, set[int]]:
        """At the network's size, uint8 (N, 3, h, w) on `device`, and which of them are blank
        because they could not be decoded."""


NO_MEMORY = (
    "out of memory",
    "can't alloc",  # "can't allocate memory" of PyTorch, "can't alloc" of OpenVINO
    "bad_alloc",
    "broken promise",  # OpenVINO's, of a thread that could not be started or go on
)


class UndecodedError(Exception):
    """A JPEG that the engine could not decode, whatever the reason: others may."""


def stack(images: Sequence[Tensor], *, pinned: bool = False) -> Tensor:
    """uint8 (3, h, w) each -> (N, 3, h, w), channels last in memory: as engines want them, and as
    one image, which is not copied, is decoded. `pinned` is memory from which a GPU fetches by
    itself."""
    if len(images) == 1 and not pinned:
        return images[0][None]
    _, height, width = images[0].shape
    whole = torch.empty(len(images), height, width, 3, dtype=torch.uint8, pin_memory=pinned)
    torch.stack([image.permute(1, 2, 0) for image in images], out=whole)
    return whole.permute(0, 3, 1, 2)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller pass could succeed; every runtime has its own words for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)
