"""The device: a batch of network inputs in, labels and per-class sums out."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from models import Checkpoint
from models.devices import choose_device, use_bf16
from models.geometry import Segmentation, network_input, segment_logits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unit:
    """Work of one fixed shape: `pixels` uint8 (3, h, w) at the network's input size, and the size
    of the image that the answer is for."""

    pixels: Tensor
    height: int
    width: int


class Engine:
    """Runs one checkpoint on one device. Not thread-safe: the batcher's thread owns it."""

    def __init__(self, checkpoint: Checkpoint, *, device: str, precision: str) -> None:
        self.device = choose_device(device)
        self.spec = checkpoint.manifest.input
        self.bf16 = use_bf16(self.device, precision)
        network = checkpoint.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval()
        logger.info("running on %s in %s", self.device, "bfloat16" if self.bf16 else "float32")

    def warm_up(self) -> None:
        """The first passes choose kernels and allocate; no request should pay for that."""
        shape = (3, self.spec.height, self.spec.width)
        unit = Unit(torch.zeros(shape, dtype=torch.uint8), self.spec.height, self.spec.width)
        for size in (1, 2):
            self.run([unit] * size)

    @torch.inference_mode()
    def run(self, units: list[Unit]) -> list[Segmentation]:
        """One forward pass for all units; only uint8 labels and small sums leave the device."""
        pixels = torch.stack([unit.pixels for unit in units])  # (N, 3, h, w)
        images = network_input(pixels, self.spec, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.network(images)  # (N, K, h, w)
        answers = [
            segment_logits(logits[index], unit.height, unit.width)
            for index, unit in enumerate(units)
        ]
        return [Segmentation(a.labels.cpu(), a.pixels.cpu(), a.confidence.cpu()) for a in answers]
