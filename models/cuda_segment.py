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
SUM_BYTES = 8  # of a number of pixels, and of a sum

_compiling = threading.Lock()


def can_segment(device: torch.device) -> bool:
    """Whether the kernel runs there; the reason why not is logged once."""
    return device.type == "cuda" and _compiled(device.index or 0) is not None


def segment(probabilities: Tensor, height: int, width: int) -> Tensor:
    """float32 (K, h, w) on a device that `can_segment` -> what `parts` takes apart: one tensor, so
    that it comes to the CPU in one go."""
    num_classes, source_height, source_width = probabilities.shape
    if not probabilities[0].is_contiguous():
        probabilities = probabilities.contiguous()
    device = probabilities.device
    size = 2 * SUM_BYTES * num_classes + height * width
    whole = torch.zeros(size, dtype=torch.uint8, device=device)
    labels, pixels, confidence = parts(whole, num_classes, height, width)
    kernel = _compiled(device.index or 0)
    assert kernel is not None
    kernel.launch(
        -(-width // THREADS) * -(-height // ROWS),
        *(probabilities.data_ptr(), probabilities.stride(0), num_classes),
        *(source_height, source_width, height, width),
        *(labels.data_ptr(), pixels.data_ptr(), confidence.data_ptr()),
    )
    return whole


def parts(
    whole: Tensor, num_classes: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of what `segment` answers, on whatever device it is now: labels uint8 (height, width), how
    often each class was chosen, int64 (K,), and the sum of its probabilities, float64 (K,)."""
    begin = SUM_BYTES * num_classes
    pixels, confidence = whole[:begin], whole[begin : 2 * begin]
    labels = whole[2 * begin :].view(height, width)
    return labels, pixels.view(torch.int64), confidence.view(torch.float64)


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

    def launch(self, blocks: int, *arguments: int) -> None:
        from cuda.core import LaunchConfig, launch

        self._device.set_current()  # of this thread
        handle = torch.cuda.current_stream(self._index).cuda_stream
        if handle not in self._streams:
            self._streams[handle] = self._device.create_stream(_Stream(handle))
        configuration = LaunchConfig(grid=blocks, block=THREADS)
        launch(self._streams[handle], configuration, self._kernel, *arguments)


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
