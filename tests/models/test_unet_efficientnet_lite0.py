"""The small pretrained network."""

from pathlib import Path

import pytest
import torch

from models import build
from models.efficientnet_lite0 import EfficientNetLite0Classifier
from models.unet_efficientnet_lite0 import UNetEfficientNetLite0
from tests.models.network_contract import NetworkContract


class TestUNetEfficientNetLite0(NetworkContract):
    name = "unet_efficientnet_lite0"
    stride = 32

    def test_the_encoder_is_a_parameter_group_of_its_own(self) -> None:
        network = self.network()
        encoder, rest = network.parameter_groups()
        groups = {
            key: any(parameter is member for member in encoder)
            for key, parameter in network.named_parameters()
        }
        assert all(in_group == key.startswith("encoder.") for key, in_group in groups.items())
        assert encoder
        assert rest


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
    decoder = {k: v.clone() for k, v in network.state_dict().items() if "encoder." not in k}
    network.load_encoder(published)
    state = network.state_dict()
    copied = [key for key in state if key.startswith("encoder.")]
    assert len(copied) > 250
    for key in copied:
        assert torch.equal(state[key], published[key.removeprefix("encoder.")]), key
    for key, tensor in decoder.items():
        assert torch.equal(state[key], tensor), key


def test_load_encoder_takes_all_of_a_classifier_but_its_head() -> None:
    classifier = EfficientNetLite0Classifier(num_classes=2)
    network = UNetEfficientNetLite0(num_classes=3, base_channels=4)
    network.load_encoder(classifier.state_dict())
    expected = {k: v for k, v in classifier.state_dict().items() if k.startswith("_blocks.3.")}
    for key, tensor in expected.items():
        assert torch.equal(network.state_dict()[f"encoder.{key}"], tensor), key


def test_load_encoder_refuses_weights_that_lack_a_key() -> None:
    state = dict(EfficientNetLite0Classifier(num_classes=2).state_dict())
    del state["_conv_stem.weight"]
    network = UNetEfficientNetLite0(base_channels=4)
    with pytest.raises(RuntimeError, match=r"_conv_stem\.weight"):
        network.load_encoder(state)
