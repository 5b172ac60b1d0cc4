"""The device: a batch of network inputs in, labels and per-class sums out."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from models import Checkpoint
from models.devices import choose_device, use_bf16
from models.geometry import network_input
from models.tiling import segment_tiled
from models.upsample import Segmentation, segment_logits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unit:
    """One image's work: `pixels` uint8 (3, h, w) at the network's input size, or the whole image
    where the network sees it in tiles, and the size of the image that the answer is for."""

    pixels: Tensor
    height: int
    width: int


class Engine:
    """Runs one checkpoint on one device. Not thread-safe: the batcher's thread owns it.

    `tiles_per_pass` is how many tiles of an image share a forward pass in the input mode `tile`.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, device: str, precision: str, tiles_per_pass: int = 1
    ) -> None:
        self.tiles_per_pass = tiles_per_pass
        self.device = choose_device(device)
        self.spec = checkpoint.manifest.input
        self.bf16 = use_bf16(self.device, precision)
        network = checkpoint.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network.eval()
        logger.info("running on %s in %s", self.device, "bfloat16" if self.bf16 else "float32")

    def warm_up(self) -> None:
        """The first passes choose kernels and allocate; no request should pay for that."""
        height, width = self.spec.height, self.spec.width
        if self.spec.mode == "tile":
            self.run([_blank(height, width)])
            self.run([_blank(height, width + 1)])  # two tiles
            return
        for size in (1, 2):
            self.run([_blank(height, width)] * size)

    @torch.inference_mode()
    def run(self, units: list[Unit]) -> list[Segmentation]:
        """One forward pass for all units, or as many as each one's tiles need; only uint8 labels
        and small sums leave the device."""
        if self.spec.mode == "tile":
            return [_on_cpu(self._segment_tiled(unit)) for unit in units]
        pixels = torch.stack([unit.pixels for unit in units])  # (N, 3, h, w)
        logits = self._forward(network_input(pixels, self.spec, self.device))  # (N, K, h, w)
        answers = [
            segment_logits(logits[index], unit.height, unit.width)
            for index, unit in enumerate(units)
        ]
        return [_on_cpu(answer) for answer in answers]

    def _segment_tiled(self, unit: Unit) -> Segmentation:
        return segment_tiled(
            unit.pixels,
            self.spec,
            self._forward,
            batch_size=self.tiles_per_pass,
            device=self.device,
        )

    def _forward(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.network(images)
        return logits


def _blank(height: int, width: int) -> Unit:
    return Unit(torch.zeros(3, height, width, dtype=torch.uint8), height, width)


def _on_cpu(answer: Segmentation) -> Segmentation:
    return Segmentation(answer.labels.cpu(), answer.pixels.cpu(), answer.confidence.cpu())
