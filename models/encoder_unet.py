"""A U-Net on top of an image classifier, which may start from the classifier's weights."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import CheckpointError
from models.misfits import list_misfits
from models.network import SegmentationNetwork, double_conv


class EncoderUNet(SegmentationNetwork):
    """Five feature maps of `encoder`, a decoder with four skips, logits at half resolution that
    are interpolated to the input's size.

    A subclass names what its encoder differs in. The attribute names are the keys of existing
    checkpoints, so they stay as they are.
    """

    stride: ClassVar[int] = 32
    ends_interpolated: ClassVar[bool] = True
    feature_channels: ClassVar[tuple[int, int, int, int, int]]  # at strides 2, 4, 8, 16, 32
    decoder_multiples: ClassVar[tuple[int, int, int, int]]  # of base/2, at strides 16, 8, 4, 2
    first_layer: ClassVar[str]  # the encoder's convolution that sees the image
    classifier_head: ClassVar[tuple[str, ...]]  # how the keys that the encoder leaves out begin

    def __init__(
        self, encoder: nn.Module, *, num_classes: int, base_channels: int, in_channels: int
    ) -> None:
        """`encoder` maps (N, C, H, W) to maps of `feature_channels`, each of size
        ceil(H / stride), ceil(W / stride)."""
        super().__init__()
        self.num_classes = num_classes
        self.base_channels = base_channels
        self.in_channels = in_channels
        self.encoder = encoder
        at2, at4, at8, at16, at32 = self.feature_channels
        half = max(1, base_channels // 2)
        out16, out8, out4, out2 = (half * multiple for multiple in self.decoder_multiples)
        self.decode16 = double_conv(at32 + at16, out16)
        self.decode8 = double_conv(out16 + at8, out8)
        self.decode4 = double_conv(out8 + at4, out4)
        self.decode2 = double_conv(out4 + at2, out2)
        self.head = nn.Conv2d(out2, num_classes, kernel_size=1)

    @classmethod
    def infer_arguments(cls, shapes: Mapping[str, torch.Size]) -> dict[str, int]:
        head = shapes["head.weight"]
        return {
            "num_classes": head[0],
            "base_channels": head[1] * 2 // cls.decoder_multiples[-1],
            "in_channels": shapes[f"encoder.{cls.first_layer}.weight"][1],
        }

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        encoder = list(self.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        return encoder, [p for p in self.parameters() if id(p) not in known]

    def load_encoder(self, classifier_state: Mapping[str, Tensor]) -> None:
        """Takes the encoder out of the classifier's state_dict, whatever classes it was for.

        A CheckpointError lists every key that does not fit; the network is then as it was.
        """
        state = {
            k: v for k, v in classifier_state.items() if not k.startswith(self.classifier_head)
        }
        misfits = list_misfits(state, self.encoder.state_dict())
        if misfits:
            raise CheckpointError("does not fit the encoder: " + "; ".join(misfits))
        self.encoder.load_state_dict(state)

    def forward(self, images: Tensor) -> Tensor:
        return _upsample_like(self.native_logits(images), images)  # (N, K, H, W)

    def native_logits(self, images: Tensor) -> Tensor:
        # scales: [hw/2, hw/4, hw/8, hw/16, hw/32]
        at2, at4, at8, at16, x = self.encoder(images)
        x = self.decode16(torch.cat([at16, _upsample_like(x, at16)], 1))
        x = self.decode8(torch.cat([at8, _upsample_like(x, at8)], 1))
        x = self.decode4(torch.cat([at4, _upsample_like(x, at4)], 1))
        x = self.decode2(torch.cat([at2, _upsample_like(x, at2)], 1))  # (N, ~b/2, H/2, W/2)
        return self.head(x)  # type: ignore[no-any-return]  # (N, K, H/2, W/2)


def _upsample_like(x: Tensor, reference: Tensor) -> Tensor:
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=False)
