"""The pretrained encoder: TensorFlow's padding, the published weights, their predictions."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from models.efficientnet_lite0 import (
    FEATURE_CHANNELS,
    EfficientNetLite0Classifier,
    EfficientNetLite0Encoder,
    SamePadConv2d,
)
from models.pixels import open_image, rgb_pixels
from tests.networks import random_images


@pytest.fixture(scope="module")
def classifier(imagenet_weights: Path) -> EfficientNetLite0Classifier:
    network = EfficientNetLite0Classifier()
    network.load_state_dict(torch.load(imagenet_weights, weights_only=True), strict=True)
    return network.eval()


def predict(classifier: EfficientNetLite0Classifier, pixels: Tensor) -> list[int]:
    """The five likeliest ImageNet classes of a uint8 (3, H, W) image."""
    square = T.resize(pixels, [224, 224], antialias=True).float()
    with torch.inference_mode():
        logits = classifier.classify(((square - 127) / 128)[None])
    return logits[0].topk(5).indices.tolist()


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 7), (8, 8), (7, 8), (8, 7), (224, 5)])
def test_pads_as_tensorflow_does(kernel: int, stride: int, size: tuple[int, int]) -> None:
    """tf.nn "SAME": ceil(size / stride) outputs; of the padding the larger half comes last."""
    layer = SamePadConv2d(2, 3, kernel_size=kernel, stride=stride)
    images = random_images(1, 2, *size)
    padding = []
    for length in reversed(size):  # F.pad counts from the last dimension
        rest = length % stride
        total = max(kernel - (rest if rest else stride), 0)
        padding += [total // 2, total - total // 2]
    padded = F.pad(images, padding)
    with torch.inference_mode():
        expected = F.conv2d(padded, layer.weight, layer.bias, stride=stride)
        actual = layer(images)
    assert actual.shape[-2:] == tuple(-(-length // stride) for length in size)
    assert torch.allclose(actual, expected, atol=1e-6)


def test_an_even_image_at_stride_two_is_padded_below_and_right_only() -> None:
    layer = SamePadConv2d(1, 1, kernel_size=3, stride=2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1)
        sums = layer(torch.ones(1, 1, 4, 4))[0, 0]
    assert sums.tolist() == [[9, 6], [6, 4]]  # PyTorch's padding=1 gives [[4, 6], [6, 9]]


@pytest.mark.parametrize("size", [(64, 96), (65, 33)])
def test_features_have_the_promised_channels_and_strides(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        features = EfficientNetLite0Encoder().eval()(random_images(1, 3, *size))
    assert [feature.shape[1] for feature in features] == list(FEATURE_CHANNELS)
    assert FEATURE_CHANNELS == (16, 24, 40, 112, 320)
    for feature, stride in zip(features, (2, 4, 8, 16, 32), strict=True):
        assert feature.shape[-2:] == tuple(-(-length // stride) for length in size)


def test_the_classifier_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = EfficientNetLite0Classifier()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008


def test_the_published_weights_fit_key_for_key(imagenet_weights: Path) -> None:
    published = torch.load(imagenet_weights, weights_only=True)
    with torch.device("meta"):
        expected = EfficientNetLite0Classifier().state_dict()
    assert {k: v.shape for k, v in published.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize(
    ("photograph", "classes"),
    [
        ("cat", {281, 282, 283, 284, 285}),  # tabby, tiger, Persian, Siamese, Egyptian cat
        ("coffee", {504, 967, 968}),  # coffee mug, espresso, cup
    ],
)
def test_recognises_photographs(
    classifier: EfficientNetLite0Classifier,
    photographs: dict[str, Path],
    photograph: str,
    classes: set[int],
) -> None:
    with open_image(photographs[photograph]) as image:
        best = predict(classifier, rgb_pixels(image))
    assert best[0] in classes, best


def test_a_blank_image_is_recognised_as_neither(classifier: EfficientNetLite0Classifier) -> None:
    """The control of the test above: the answer comes from the photograph."""
    blank = rgb_pixels(Image.new("RGB", (224, 224), "grey"))
    assert predict(classifier, blank)[0] not in {281, 282, 283, 284, 285, 504, 967, 968}
