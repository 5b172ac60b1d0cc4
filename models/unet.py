"""The plain U-Net of the report's first question."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures import register
from models.network import SegmentationNetwork, double_conv


@register("unet")
class UNet(SegmentationNetwork):
    """Five levels, bilinear upsampling, skip connections concatenated skip first.

    The attribute names are the keys of existing checkpoints, so they stay as they are.
    """

    stride: ClassVar[int] = 16

    def __init__(
        self, *, num_classes: int = 22, base_channels: int = 64, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.base_channels = base_channels
        self.in_channels = in_channels
        width = base_channels
        self.convDown1 = double_conv(in_channels, width)
        self.convDown2 = double_conv(width, width * 2)
        self.convDown3 = double_conv(width * 2, width * 4)
        self.convDown4 = double_conv(width * 4, width * 8)
        self.convDown5 = double_conv(width * 8, width * 16)
        # ceil_mode changes nothing at multiples of 16 and keeps the last row and column elsewhere
        self.maxpool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.convUp4 = double_conv(width * 24, width * 8)
        self.convUp3 = double_conv(width * 12, width * 4)
        self.convUp2 = double_conv(width * 6, width * 2)
        self.convUp1 = double_conv(width * 3, width)
        self.convUp_fin = nn.Conv2d(width, num_classes, kernel_size=1)

    @classmethod
    def infer_arguments(cls, shapes: Mapping[str, torch.Size]) -> dict[str, int]:
        first = shapes["convDown1.0.weight"]
        return {
            "num_classes": shapes["convUp_fin.weight"][0],
            "base_channels": first[0],
            "in_channels": first[1],
        }

    def forward(self, images: Tensor) -> Tensor:
        # scales: [hw, hw/2, hw/4, hw/8, hw/16]; widths: [b, 2b, 4b, 8b, 16b]
        down1 = self.convDown1(images)
        down2 = self.convDown2(self.maxpool(down1))
        down3 = self.convDown3(self.maxpool(down2))
        down4 = self.convDown4(self.maxpool(down3))
        x = self.convDown5(self.maxpool(down4))
        x = self.convUp4(torch.cat([down4, _upsample_like(x, down4)], 1))  # (N, 8b, H/8, W/8)
        x = self.convUp3(torch.cat([down3, _upsample_like(x, down3)], 1))  # (N, 4b, H/4, W/4)
        x = self.convUp2(torch.cat([down2, _upsample_like(x, down2)], 1))  # (N, 2b, H/2, W/2)
        x = self.convUp1(torch.cat([down1, _upsample_like(x, down1)], 1))  # (N, b, H, W)
        logits: Tensor = self.convUp_fin(x)  # (N, K, H, W)
        return logits


def _upsample_like(x: Tensor, skip: Tensor) -> Tensor:
    """Twice the size where the skip is even, one less where it is odd."""
    return F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=True)
