"""The ResNet-50 encoder against torchvision's own network."""

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet50
from torchvision.models.feature_extraction import create_feature_extractor

from models.resnet50 import CLASSIFIER_KEYS, FEATURE_CHANNELS, ResNet50Encoder
from tests.networks import random_images, randomise

NODES = ["relu", "layer1", "layer2", "layer3", "layer4"]  # the last of each stride


@pytest.fixture(scope="module")
def classifier() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: torch.nn.Module = resnet50(weights=None)
    randomise(network)
    return network.eval()


@pytest.fixture(scope="module")
def encoder(classifier: torch.nn.Module) -> ResNet50Encoder:
    """An encoder with the classifier's weights, every one of which has its place."""
    network = ResNet50Encoder()
    state = {k: v for k, v in classifier.state_dict().items() if not k.startswith(CLASSIFIER_KEYS)}
    network.load_state_dict(state, strict=True)
    return network.eval()


def test_keys_and_shapes_are_torchvisions_but_for_the_classifier() -> None:
    with torch.device("meta"):
        expected = resnet50(weights=None).state_dict()
        actual = ResNet50Encoder().state_dict()
    assert expected.keys() - actual.keys() == {"fc.weight", "fc.bias"}
    assert {k: v.shape for k, v in actual.items()} == {k: expected[k].shape for k in actual}
    assert list(actual) == [key for key in expected if not key.startswith("fc.")]


@pytest.mark.parametrize("size", [(64, 96), (65, 33), (37, 101), (1, 1)])
def test_features_are_exactly_those_of_torchvisions_forward_pass(
    classifier: torch.nn.Module, encoder: ResNet50Encoder, size: tuple[int, int]
) -> None:
    images = random_images(2, 3, *size)
    extractor = create_feature_extractor(classifier, NODES)
    with torch.inference_mode():
        expected: dict[str, Tensor] = extractor(images)
        actual = encoder(images)
    assert [feature.shape[1] for feature in actual] == list(FEATURE_CHANNELS)
    for feature, node in zip(actual, NODES, strict=True):
        assert torch.equal(feature, expected[node]), node


def test_other_than_three_channels_change_the_first_layer_only() -> None:
    with torch.device("meta"):
        expected = ResNet50Encoder().state_dict()
        actual = ResNet50Encoder(in_channels=5).state_dict()
    differing = [key for key in expected if actual[key].shape != expected[key].shape]
    assert differing == ["conv1.weight"]
    assert actual["conv1.weight"].shape == (64, 5, 7, 7)
