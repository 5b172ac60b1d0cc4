"""The large pretrained network."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.models import ResNet50_Weights, resnet50

from models import build
from models.unet_resnet50_full import UNetResNet50Full
from tests.models.encoder_contract import EncoderContract


class TestUNetResNet50Full(EncoderContract):
    name = "unet_resnet50_full"
    stride = 32
    first_layer = "conv1.weight"

    def classifier_state(self, *, num_classes: int) -> Mapping[str, Tensor]:
        state: Mapping[str, Tensor] = resnet50(num_classes=num_classes).state_dict()
        return state


def test_the_published_width_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        network = build("unet_resnet50_full", num_classes=22, base_channels=64)
    assert sum(parameter.numel() for parameter in network.parameters()) == 32_515_670


def test_expects_the_normalisation_its_weights_were_trained_with() -> None:
    transforms = ResNet50_Weights.IMAGENET1K_V2.transforms()
    assert UNetResNet50Full.mean == tuple(transforms.mean)
    assert UNetResNet50Full.std == tuple(transforms.std)
