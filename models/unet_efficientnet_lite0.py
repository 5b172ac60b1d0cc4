"""A small pretrained U-Net for machines without a GPU: EfficientNet-Lite0 and a light decoder."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures import register
from models.efficientnet_lite0 import (
    CLASSIFIER_KEYS,
    FEATURE_CHANNELS,
    EfficientNetLite0Encoder,
)
from models.network import Color3, SegmentationNetwork, double_conv


@register("unet_efficientnet_lite0")
class UNetEfficientNetLite0(SegmentationNetwork):
    """4.5 M parameters at 64 base channels, which scale the decoder; logits at half resolution
    are interpolated to the input's size."""

    stride: ClassVar[int] = 32
    mean: ClassVar[Color3] = (127 / 255, 127 / 255, 127 / 255)
    std: ClassVar[Color3] = (128 / 255, 128 / 255, 128 / 255)

    def __init__(
        self, *, num_classes: int = 22, base_channels: int = 64, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.base_channels = base_channels
        self.in_channels = in_channels
        self.encoder = EfficientNetLite0Encoder(in_channels=in_channels)
        at2, at4, at8, at16, at32 = FEATURE_CHANNELS
        half = max(1, base_channels // 2)
        self.decode16 = double_conv(at32 + at16, half * 6)
        self.decode8 = double_conv(half * 6 + at8, half * 3)
        self.decode4 = double_conv(half * 3 + at4, half * 2)
        self.decode2 = double_conv(half * 2 + at2, half)
        self.head = nn.Conv2d(half, num_classes, kernel_size=1)

    @classmethod
    def infer_arguments(cls, shapes: Mapping[str, torch.Size]) -> dict[str, int]:
        head = shapes["head.weight"]
        return {
            "num_classes": head[0],
            "base_channels": head[1] * 2,
            "in_channels": shapes["encoder._conv_stem.weight"][1],
        }

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        encoder = list(self.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        return encoder, [p for p in self.parameters() if id(p) not in known]

    def load_encoder(self, classifier_state: Mapping[str, Tensor]) -> None:
        """Takes the encoder out of an ImageNet classifier's state_dict; the rest must match."""
        state = {k: v for k, v in classifier_state.items() if not k.startswith(CLASSIFIER_KEYS)}
        self.encoder.load_state_dict(state)

    def forward(self, images: Tensor) -> Tensor:
        # scales: [hw/2, hw/4, hw/8, hw/16, hw/32]; channels: [16, 24, 40, 112, 320]
        at2, at4, at8, at16, x = self.encoder(images)
        x = self.decode16(torch.cat([at16, _upsample_like(x, at16)], 1))
        x = self.decode8(torch.cat([at8, _upsample_like(x, at8)], 1))
        x = self.decode4(torch.cat([at4, _upsample_like(x, at4)], 1))
        x = self.decode2(torch.cat([at2, _upsample_like(x, at2)], 1))  # (N, b/2, H/2, W/2)
        return _upsample_like(self.head(x), images)  # (N, K, H, W)


def _upsample_like(x: Tensor, reference: Tensor) -> Tensor:
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=False)
