"""PyTorch: on CUDA, MPS and the CPU, eager or compiled."""

import torch
from torch import Tensor

from models import Checkpoint
from models.geometry import network_input

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class TorchEngine:
    """`precision` is float32, bfloat16 or float16; `compiled` asks for `torch.compile`, on CUDA
    with CUDA graphs, which takes seconds for every size of a pass and a C++ compiler on the CPU.
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
        network = checkpoint.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval()
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        self._forward = (
            torch.compile(self.network, mode=mode, dynamic=False) if compiled else self.network
        )

    def warm_up(self, count: int) -> None:
        blank = torch.zeros(count, 3, self.spec.height, self.spec.width, dtype=torch.uint8)
        for _ in range(3):  # CUDA graphs are recorded in the second pass
            self.run(blank, alone=True)

    def forget(self, count: int) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        images = network_input(pixels, self.spec, self.device)
        half = self._dtype != torch.float32
        with torch.autocast(self.device.type, self._dtype if half else None, enabled=half):
            logits: Tensor = self._forward(images)
        # a new tensor: a CUDA graph's own output is overwritten by the next pass
        answer = logits.float().softmax(1).contiguous()
        if self.device.type == "cuda":  # its time and its errors are this pass's
            torch.cuda.current_stream(self.device).synchronize()
        return answer

    def close(self) -> None:
        del self._forward, self.network
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
