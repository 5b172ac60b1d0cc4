"""What every network here has in common."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

Color3 = tuple[float, float, float]
Forward = Callable[[Tensor], Tensor]  # images (N, C, h, w) -> logits, float32 both: (N, K, h, w),
# or, where they are interpolated anyway, (N, K, ~h, ~w) as of `SegmentationNetwork.native_logits`


class SegmentationNetwork(nn.Module):
    """Maps (N, C, H, W) float images to (N, K, H, W) float logits, for any H and W >= 1.

    A subclass names its largest stride, the normalisation its weights expect (fractions of
    full scale, per channel) and how its constructor arguments are read off a state_dict.
    """

    stride: ClassVar[int]
    ends_interpolated: ClassVar[bool] = False  # `native_logits` have another resolution
    mean: ClassVar[Color3] = (0.485, 0.456, 0.406)
    std: ClassVar[Color3] = (0.229, 0.224, 0.225)

    num_classes: int
    in_channels: int
    base_channels: int

    @classmethod
    def infer_arguments(cls, shapes: Mapping[str, torch.Size]) -> dict[str, int]:
        """Constructor arguments from the shapes in a state_dict; KeyError where one is absent."""
        raise NotImplementedError(cls.__name__)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """(pretrained encoder, everything else); the first is empty for networks from scratch."""
        return [], list(self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError(type(self).__name__)

    def native_logits(self, images: Tensor) -> Tensor:
        """(N, K, ~h, ~w), at the resolution at which they are computed: `forward` without the
        interpolation to the input's size that some networks end with. For whoever interpolates
        them to another size anyway."""
        return self(images)  # type: ignore[no-any-return]


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """The U-Net block: twice 3x3 convolution, batch norm, ReLU (Ronneberger et al., 2015)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
