"""The small pretrained network."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import build
from models.efficientnet_lite0 import EfficientNetLite0Classifier
from models.unet_efficientnet_lite0 import UNetEfficientNetLite0
from tests.models.encoder_contract import EncoderContract


class TestUNetEfficientNetLite0(EncoderContract):
    name = "unet_efficientnet_lite0"
    stride = 32
    first_layer = "_conv_stem.weight"

    def classifier_state(self, *, num_classes: int) -> Mapping[str, Tensor]:
        return EfficientNetLite0Classifier(num_classes=num_classes).state_dict()


def test_has_about_four_and_a_half_million_parameters() -> None:
    with torch.device("meta"):
        network = build("unet_efficientnet_lite0", num_classes=22)
    assert 4.4e6 < sum(parameter.numel() for parameter in network.parameters()) < 4.6e6


def test_expects_the_normalisation_its_weights_were_trained_with() -> None:
    """(x - 127) / 128, said in fractions of full scale."""
    assert [255 * value for value in UNetEfficientNetLite0.mean] == pytest.approx([127] * 3)
    assert [255 * value for value in UNetEfficientNetLite0.std] == pytest.approx([128] * 3)


def test_load_encoder_copies_the_published_weights_exactly(imagenet_weights: Path) -> None:
    published = torch.load(imagenet_weights, weights_only=True)
    network = UNetEfficientNetLite0(num_classes=3, base_channels=4)
    network.load_encoder(published)
    state = network.state_dict()
    copied = [key for key in state if key.startswith("encoder.")]
    assert len(copied) > 250
    for key in copied:
        assert torch.equal(state[key], published[key.removeprefix("encoder.")]), key
