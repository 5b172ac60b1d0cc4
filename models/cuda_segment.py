"""`segment_probabilities` on NVIDIA's GPUs: one kernel, compiled for the GPU when it is first used.

PyTorch's operators start a dozen kernels for every image and wait in between, and each gives
Python's lock away and takes it again, which under load takes longer than the kernel.
"""

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("segment.cu")
THREADS, ROWS = 128, 8  # the source's own: a block's columns, and the rows of each
SUM_BYTES = 8  # of a number of pixels, and of a sum of probabilities

Size = tuple[int, int]  # height, width

_compiling = threading.Lock()


def can_segment(device: torch.device) -> bool:
    """Whether the kernel runs there; the reason why not is logged once."""
    return device.type == "cuda" and _compiled(device.index or 0) is not None


def segment(probabilities: Tensor, height: int, width: int) -> Tensor:
    """float32 (K, h, w) on a device that `can_segment` -> what `parts` takes apart: one tensor, so
    that it comes to the CPU in one go."""
    if not probabilities[0].is_contiguous():
        probabilities = probabilities.contiguous()
    return segment_batch(probabilities[None], [(height, width)])


def segment_batch(probabilities: Tensor, sizes: Sequence[Size | None]) -> Tensor:
    """float32 (N, K, h, w), each class's plane contiguous, and the N images' (height, width), None
    for those to be left out -> what `parts_of_batch` takes apart: the answers in one tensor.
    ValueError for other planes."""
    if len(sizes) != len(probabilities):
        raise ValueError(f"{len(sizes)} sizes for {len(probabilities)} images")
    _, num_classes, source_height, source_width = probabilities.shape
    if not probabilities[0, 0].is_contiguous():
        raise ValueError(f"planes are not contiguous: strides {probabilities.stride()}")
    begins = _begins(num_classes, sizes)
    device = probabilities.device
    whole = torch.zeros(begins[-1], dtype=torch.uint8, device=device)
    rows = [
        (index, *size, begin)
        for index, (size, begin) in enumerate(zip(sizes, begins, strict=False))
        if size is not None
    ]
    if not rows:
        return whole
    wanted = torch.tensor(rows, dtype=torch.int64, pin_memory=device.type == "cuda")
    wanted = wanted.to(device, non_blocking=True)
    kernel = _compiled(device.index or 0)
    assert kernel is not None
    kernel.launch(
        (max(-(-width // THREADS) * -(-height // ROWS) for _, height, width, _ in rows), len(rows)),
        *(probabilities.data_ptr(), *probabilities.stride()[:2], num_classes),
        *(source_height, source_width, wanted.data_ptr(), whole.data_ptr()),
    )
    return whole


def parts_of_batch(
    whole: NDArray[np.uint8], num_classes: int, sizes: Sequence[Size | None]
) -> list[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]] | None]:
    """`parts` of each image, from what `segment_batch` answers, on the CPU."""
    places = zip(sizes, pairwise(_begins(num_classes, sizes)), strict=True)
    found: list[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]] | None] = []
    for size, (begin, _) in places:
        if size is None:
            found.append(None)
            continue
        pixels, confidence, labels, end = _places(begin, num_classes, *size)
        found.append(
            (
                whole[labels:end].reshape(size),
                whole[pixels:confidence].view(np.int64),
                whole[confidence:labels].view(np.float64),
            )
        )
    return found


def parts(
    whole: Tensor, num_classes: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of what `segment` answers, on whatever device it is now: labels uint8 (height, width), how
    often each class was chosen, int64 (K,), and the sum of its probabilities, float64 (K,)."""
    pixels, confidence, labels, end = _places(0, num_classes, height, width)
    return (
        whole[labels:end].view(height, width),
        whole[pixels:confidence].view(torch.int64),
        whole[confidence:labels].view(torch.float64),
    )


def _places(begin: int, num_classes: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Where an image's pixels, confidence and labels begin, and where the last end."""
    confidence = begin + SUM_BYTES * num_classes
    labels = confidence + SUM_BYTES * num_classes
    return begin, confidence, labels, labels + height * width


def _begins(num_classes: int, sizes: Sequence[Size | None]) -> list[int]:
    """Where each image's answer begins, and the end of all: sums lie at multiples of their size."""
    extents = (0 if size is None else _extent(num_classes, *size) for size in sizes)
    return list(accumulate(extents, initial=0))


def _extent(num_classes: int, height: int, width: int) -> int:
    """Bytes of an image's answer, up to where the next may begin."""
    return 2 * SUM_BYTES * num_classes + -(-height * width // SUM_BYTES) * SUM_BYTES


class _Kernel:
    """The compiled kernel on one GPU."""

    def __init__(self, index: int) -> None:
        from cuda.core import Device, Program, ProgramOptions

        self._index = index
        self._streams: dict[int, Any] = {}  # PyTorch's, which it keeps for ever, by their handles
        self._device = Device(index)
        self._device.set_current()
        options = ProgramOptions(std="c++17", arch=f"sm_{self._device.arch}")
        program = Program(SOURCE.read_text(encoding="utf-8"), "c++", options)
        self._kernel = program.compile("cubin").get_kernel("segment")

    def launch(self, blocks: tuple[int, int], *arguments: int) -> None:
        from cuda.core import LaunchConfig, launch

        self._device.set_current()  # of this thread
        handle = torch.cuda.current_stream(self._index).cuda_stream
        if handle not in self._streams:
            self._streams[handle] = self._stream(handle)
        configuration = LaunchConfig(grid=blocks, block=THREADS)
        launch(self._streams[handle], configuration, self._kernel, *arguments)

    def _stream(self, handle: int) -> Any:
        from cuda.core import LEGACY_DEFAULT_STREAM

        if not handle:  # PyTorch's default stream
            return LEGACY_DEFAULT_STREAM
        return self._device.create_stream(_Stream(handle))


class _Stream:
    """PyTorch's stream by the protocol that CUDA's Python packages share."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def _compiled(index: int) -> Any:
    with _compiling:
        return _compile(index)


@lru_cache
def _compile(index: int) -> _Kernel | None:
    try:
        return _Kernel(index)
    except ImportError:
        logger.info("cuda-core would make masks faster; it is not installed")
    except Exception as error:  # noqa: BLE001 - drivers raise anything
        logger.warning("masks are made the slower way, the kernel cannot be used: %s", error)
    return None
