"""A U-Net on a complete, pretrained ResNet-50: the large network, for machines with a GPU."""

from models.architectures import register
from models.encoder_unet import EncoderUNet
from models.resnet50 import CLASSIFIER_KEYS, FEATURE_CHANNELS, ResNet50Encoder


@register("unet_resnet50_full")
class UNetResNet50Full(EncoderUNet):
    """32.5 M parameters at 64 base channels, which scale the decoder."""

    feature_channels = FEATURE_CHANNELS
    decoder_multiples = (8, 4, 2, 1)
    first_layer = "conv1"
    classifier_head = CLASSIFIER_KEYS

    def __init__(
        self, *, num_classes: int = 22, base_channels: int = 64, in_channels: int = 3
    ) -> None:
        super().__init__(
            ResNet50Encoder(in_channels=in_channels),
            num_classes=num_classes,
            base_channels=base_channels,
            in_channels=in_channels,
        )
