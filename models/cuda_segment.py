"""`segment_probabilities` on NVIDIA's GPUs: one kernel, compiled for the GPU when it is first used.

PyTorch's operators start a dozen kernels for every image and wait in between, and each gives
Python's lock away and takes it again, which under load takes longer than the kernel.
"""

import logging
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("segment.cu")
THREADS, ROWS = 128, 8  # the source's own: a block's columns, and the rows of each

_compiling = threading.Lock()


def can_segment(device: torch.device) -> bool:
    """Whether the kernel runs there; the reason why not is logged once."""
    return device.type == "cuda" and _compiled(device.index or 0) is not None


def segment(probabilities: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """float32 (K, h, w) on a device that `can_segment` -> labels uint8 (height, width), how often
    each class was chosen, int64 (K,), and the sum of its probabilities, float64 (K,)."""
    num_classes, source_height, source_width = probabilities.shape
    if not probabilities[0].is_contiguous():
        probabilities = probabilities.contiguous()
    device = probabilities.device
    labels = torch.empty((height, width), dtype=torch.uint8, device=device)
    sums = torch.zeros((2, num_classes), dtype=torch.float64, device=device)
    pixels = sums[0].view(torch.int64)  # zero has the same bits
    kernel = _compiled(device.index or 0)
    assert kernel is not None
    kernel.launch(
        -(-width // THREADS) * -(-height // ROWS),
        *(probabilities.data_ptr(), probabilities.stride(0), num_classes),
        *(source_height, source_width, height, width),
        *(labels.data_ptr(), pixels.data_ptr(), sums[1].data_ptr()),
    )
    return labels, pixels, sums[1]


class _Kernel:
    """The compiled kernel on one GPU."""

    def __init__(self, index: int) -> None:
        from cuda.core import Device, Program, ProgramOptions

        self._index = index
        self._device = Device(index)
        self._device.set_current()
        options = ProgramOptions(std="c++17", arch=f"sm_{self._device.arch}")
        program = Program(SOURCE.read_text(encoding="utf-8"), "c++", options)
        self._kernel = program.compile("cubin").get_kernel("segment")

    def launch(self, blocks: int, *arguments: int) -> None:
        from cuda.core import LaunchConfig, launch

        self._device.set_current()  # of this thread
        stream = _Stream(torch.cuda.current_stream(self._index).cuda_stream)
        launch(stream, LaunchConfig(grid=blocks, block=THREADS), self._kernel, *arguments)


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
