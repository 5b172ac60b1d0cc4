"""EfficientNet-Lite0, the encoder that a machine without a GPU can train and serve.

Tan and Le, "EfficientNet: Rethinking Model Scaling", 2019, and its "Lite" revision of 2020: no
squeeze-and-excitation, ReLU6 instead of swish, stem and head not scaled.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-3  # TensorFlow's default, with which the published weights were trained


class Stage(NamedTuple):
    """`repeats` blocks; the first one changes the stride and the channels."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
FEATURE_CHANNELS = (16, 24, 40, 112, 320)  # at strides 2, 4, 8, 16, 32


class SamePadConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the odd row and column go to the far side.

    Kernels are odd, strides 1 or 2. No branch depends on the image's size: an exported network
    would keep the one that was right for the size it was traced with.
    """

    def forward(self, x: Tensor) -> Tensor:
        middle_y, middle_x = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        if self.stride == (1, 1) or self.kernel_size == (1, 1):
            # symmetric at any size, and symmetric padding costs nothing inside the convolution
            padding = (middle_y, middle_x)
            return F.conv2d(
                x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
            )
        top, bottom = _same_padding(x.shape[-2], middle_y)
        left, right = _same_padding(x.shape[-1], middle_x)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _same_padding(size: int, middle: int) -> tuple[int, int]:
    """(near side, far side) at stride 2: an even size moves the windows on by one.

    The far side's last row is then read by no window; with it the sum is the same at any size,
    which keeps the sizes of an exported network short expressions.
    """
    even = (size - 1) % 2
    return middle - even, middle + even


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, project 1x1 (Sandler et al., 2018).

    The attribute names are the keys of the published weights, underscores included.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expand: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.expands = expand != 1
        self.is_residual = stride == 1 and in_channels == out_channels
        if self.expands:
            self._expand_conv = nn.Conv2d(in_channels, hidden, kernel_size=1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=BATCH_NORM_EPS)
        self._depthwise_conv = SamePadConv2d(
            hidden, hidden, kernel_size=kernel, stride=stride, groups=hidden, bias=False
        )
        self._bn1 = nn.BatchNorm2d(hidden, eps=BATCH_NORM_EPS)
        self._project_conv = nn.Conv2d(hidden, out_channels, kernel_size=1, bias=False)
        self._bn2 = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expands:
            y = F.relu6(self._bn0(self._expand_conv(y)), inplace=True)
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        projected: Tensor = self._bn2(self._project_conv(y))
        return x + projected if self.is_residual else projected


class EfficientNetLite0Encoder(nn.Module):
    """(N, C, H, W) -> five feature maps of `FEATURE_CHANNELS` at strides 2, 4, 8, 16 and 32."""

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self._conv_stem = SamePadConv2d(in_channels, 32, kernel_size=3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=BATCH_NORM_EPS)
        self._blocks = nn.ModuleList()
        self.strides: list[int] = []
        channels = 32
        for stage in STAGES:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                self._blocks.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        kernel=stage.kernel,
                        stride=stride,
                        expand=stage.expand,
                    )
                )
                self.strides.append(stride)
                channels = stage.channels

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(images)), inplace=True)
        features = []
        for block, stride in zip(self._blocks, self.strides, strict=True):
            if stride == 2:
                features.append(x)  # the last map before each halving
            x = block(x)
        return [*features, x]


class EfficientNetLite0Classifier(EfficientNetLite0Encoder):
    """The whole ImageNet network: its state_dict is the published file, key for key."""

    def __init__(self, *, num_classes: int = 1000) -> None:
        super().__init__()
        self._conv_head = nn.Conv2d(320, 1280, kernel_size=1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=BATCH_NORM_EPS)
        self._fc = nn.Linear(1280, num_classes)

    def classify(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised images -> (N, num_classes) logits."""
        x = super().forward(images)[-1]
        x = F.relu6(self._bn1(self._conv_head(x)), inplace=True)
        logits: Tensor = self._fc(x.mean((-2, -1)))
        return logits


CLASSIFIER_KEYS = ("_conv_head.", "_bn1.", "_fc.")  # what the encoder leaves in the file
