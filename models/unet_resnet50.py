"""The U-Net with a ResNet-50 encoder cut after its second stage: the report's second question."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures import register
from models.network import SegmentationNetwork, double_conv


class ResidualBlock(nn.Module):
    """Bottleneck block (He et al., 2015) with convolution biases and a shortcut on every block.

    `downsample` halves height and width in the first 1x1 convolution and in the shortcut.
    The attribute names are the keys of existing checkpoints, so they stay as they are.
    """

    def __init__(
        self, in_channels: int, middle_channels: int, out_channels: int, *, downsample: bool = False
    ) -> None:
        super().__init__()
        stride = 2 if downsample else 1
        self.layer = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(in_channels, middle_channels, kernel_size=1, stride=stride),
                nn.BatchNorm2d(middle_channels),
                nn.ReLU(inplace=True),
            ),
            nn.Sequential(
                nn.Conv2d(middle_channels, middle_channels, kernel_size=3, padding=1),
                nn.BatchNorm2d(middle_channels),
                nn.ReLU(inplace=True),
            ),
            nn.Sequential(
                nn.Conv2d(middle_channels, out_channels, kernel_size=1),
                nn.BatchNorm2d(out_channels),
            ),
        )
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride),
            nn.BatchNorm2d(out_channels),
        )
        self.downsample = downsample
        if downsample:
            self.downsize = shortcut
        else:
            self.make_equal_channel = shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsize(x) if self.downsample else self.make_equal_channel(x)
        return F.relu(self.layer(x) + shortcut, inplace=True)


@register("unet_resnet50")
class UNetResNet50(SegmentationNetwork):
    """Encoder strides 2, 4, 8; decoder with two skips; transposed convolutions to exact sizes.

    The attribute names are the keys of existing checkpoints, so they stay as they are.
    """

    stride: ClassVar[int] = 8

    def __init__(
        self, *, num_classes: int = 22, base_channels: int = 64, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.base_channels = base_channels
        self.in_channels = in_channels
        width = base_channels
        self.layer1 = nn.Sequential(
            nn.Conv2d(in_channels, width, kernel_size=7, stride=2, padding=3),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer2 = nn.Sequential(
            ResidualBlock(width, width, width * 4),
            ResidualBlock(width * 4, width, width * 4),
            ResidualBlock(width * 4, width, width * 4, downsample=True),
        )
        self.layer3 = nn.Sequential(
            ResidualBlock(width * 4, width * 2, width * 8),
            ResidualBlock(width * 8, width * 2, width * 8),
            ResidualBlock(width * 8, width * 2, width * 8),
            ResidualBlock(width * 8, width * 2, width * 8),
        )
        self.bridge = double_conv(width * 8, width * 8)
        self.UpConv1 = nn.Conv2d(width * 8, width * 4, kernel_size=3, padding=1)
        self.UnetConv1 = double_conv(width * 8, width * 4)
        self.upconv2_1 = _doubling(width * 4)
        self.upconv2_2 = nn.Conv2d(width * 4, width, kernel_size=3, padding=1)
        self.UnetConv2_1 = nn.Conv2d(width * 2, width, kernel_size=3, padding=1)
        self.UnetConv2_2 = _doubling(width)
        self.UnetConv2_3 = nn.Conv2d(width, num_classes, kernel_size=1)

    @classmethod
    def infer_arguments(cls, shapes: Mapping[str, torch.Size]) -> dict[str, int]:
        first = shapes["layer1.0.weight"]
        return {
            "num_classes": shapes["UnetConv2_3.weight"][0],
            "base_channels": first[0],
            "in_channels": first[1],
        }

    def forward(self, images: Tensor) -> Tensor:
        # scales: stem hw/2, out1 hw/4, out2 and below hw/8
        stem = self.layer1(images)
        out1 = self.pool(stem)  # (N, b, H/4, W/4)
        out2 = self.layer2(out1)  # (N, 4b, H/8, W/8)
        x = self.UpConv1(self.bridge(self.layer3(out2)))  # (N, 4b, H/8, W/8)
        x = self.UnetConv1(torch.cat([out2, x], 1))
        x = _cut(self.upconv2_1(x), out1)
        x = torch.cat([out1, self.upconv2_2(x)], 1)  # (N, 2b, H/4, W/4)
        # the stem's size rather than factor 2: the same at multiples of 4, right elsewhere
        x = self.UnetConv2_1(F.interpolate(x, size=stem.shape[-2:], mode="nearest"))
        x = _cut(self.UnetConv2_2(x), images)  # (N, b, H, W)
        logits: Tensor = self.UnetConv2_3(x)  # (N, K, H, W)
        return logits


def _doubling(channels: int) -> nn.ConvTranspose2d:
    """n -> 2n rows and columns, of which an odd size needs all but the last.

    An output padding that follows the image's size says the same, but no exchange format can
    hold one that is not a constant.
    """
    return nn.ConvTranspose2d(
        channels, channels, kernel_size=3, stride=2, padding=1, output_padding=1
    )


def _cut(x: Tensor, reference: Tensor) -> Tensor:
    height, width = reference.shape[-2:]
    if torch.compiler.is_exporting():
        # a slice is the whole or a part, which an exported graph would keep as a condition on the
        # image's size; a selection is a copy either way
        rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
        return x.index_select(-2, rows).index_select(-1, columns)
    return x[..., :height, :width]
