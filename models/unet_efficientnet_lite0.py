"""A small pretrained U-Net for machines without a GPU: EfficientNet-Lite0 and a light decoder."""

from typing import ClassVar

from models.architectures import register
from models.efficientnet_lite0 import (
    CLASSIFIER_KEYS,
    FEATURE_CHANNELS,
    EfficientNetLite0Encoder,
)
from models.encoder_unet import EncoderUNet
from models.network import Color3


@register("unet_efficientnet_lite0")
class UNetEfficientNetLite0(EncoderUNet):
    """4.5 M parameters at 64 base channels, which scale the decoder."""

    mean: ClassVar[Color3] = (127 / 255, 127 / 255, 127 / 255)
    std: ClassVar[Color3] = (128 / 255, 128 / 255, 128 / 255)
    feature_channels = FEATURE_CHANNELS
    decoder_multiples = (6, 3, 2, 1)
    first_layer = "_conv_stem"
    classifier_head = CLASSIFIER_KEYS

    def __init__(
        self, *, num_classes: int = 22, base_channels: int = 64, in_channels: int = 3
    ) -> None:
        super().__init__(
            EfficientNetLite0Encoder(in_channels=in_channels),
            num_classes=num_classes,
            base_channels=base_channels,
            in_channels=in_channels,
        )
