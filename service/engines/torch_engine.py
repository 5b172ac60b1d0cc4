"""PyTorch: on the CPU and MPS, eager or compiled; what runs on CUDA is built on it."""

import torch
from torch import Tensor

from models import Checkpoint
from models.folding import folded
from models.geometry import Normalisation
from models.segmentation import forward_for

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
WARM_UPS = 3


class TorchEngine:
    """`precision` is float32, bfloat16 or float16; `compiled` asks for `torch.compile`, which takes
    seconds for every size of a pass and a C++ compiler."""

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
        forward = forward_for(self.network)
        self._network = torch.compile(forward, dynamic=False) if compiled else forward

    def warm_up(self, count: int) -> None:
        for _ in range(WARM_UPS):
            self.run(self._blank(count), alone=True)

    def forget(self, count: int) -> None:
        """Nothing is kept for passes of one size."""

    @torch.inference_mode()
    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        return self._forward(pixels)

    def close(self) -> None:
        del self._network, self.network

    def _blank(self, count: int) -> Tensor:
        """Pixels (N, 3, h, w) of nothing."""
        return torch.zeros(count, 3, self.spec.height, self.spec.width, dtype=torch.uint8)

    def _forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, 3, h, w) -> logits (N, K, ~h, ~w), on the device."""
        images = self._normalised(pixels.to(self.device, non_blocking=True)).to(self._dtype)
        logits: Tensor = self._network(images.contiguous(memory_format=torch.channels_last))
        return logits
