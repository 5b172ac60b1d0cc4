"""The report's first network, against its description."""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import build
from tests.models.network_contract import NetworkContract
from tests.models.state_contract import Shapes, conv, convolution
from tests.networks import random_images, small_network


class TestUNet(NetworkContract):
    name = "unet"
    stride = 16


def expected_shapes() -> Shapes:
    return {
        **conv("convDown1", 3, 64),
        **conv("convDown2", 64, 128),
        **conv("convDown3", 128, 256),
        **conv("convDown4", 256, 512),
        **conv("convDown5", 512, 1024),
        **conv("convUp4", 1536, 512),
        **conv("convUp3", 768, 256),
        **conv("convUp2", 384, 128),
        **conv("convUp1", 192, 64),
        **convolution("convUp_fin", 22, 64, 1, 1, bias=22),
    }


def test_has_the_keys_and_shapes_of_existing_checkpoints() -> None:
    with torch.device("meta"):
        state = build("unet", num_classes=22).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == expected_shapes()


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("convDown1.0.weight", (64, 3, 3, 3)),
        ("convDown5.3.weight", (1024, 1024, 3, 3)),
        ("convUp4.0.weight", (512, 1536, 3, 3)),
        ("convUp3.0.weight", (256, 768, 3, 3)),
        ("convUp2.0.weight", (128, 384, 3, 3)),
        ("convUp1.0.weight", (64, 192, 3, 3)),
        ("convUp_fin.weight", (22, 64, 1, 1)),
    ],
)
def test_has_the_shapes_printed_in_the_report(key: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        assert build("unet").state_dict()[key].shape == shape


def test_has_the_reports_number_of_parameters() -> None:
    with torch.device("meta"):
        network = build("unet", num_classes=22)
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_392_086


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(64, 64), (32, 80)])
def test_computes_what_the_report_describes(batch: int, size: tuple[int, int]) -> None:
    network = small_network("unet", num_classes=22, base_channels=4)
    images = random_images(batch, 3, *size)
    with torch.inference_mode():
        actual = network(images)
        expected = report_unet(images, network.state_dict())
    assert expected.std() > 0.01  # not a comparison of constants
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", ["convUp4", "convUp3", "convUp2", "convUp1"])
def test_concatenates_the_skip_before_the_upsampled_features(level: str) -> None:
    """The first third of what enters a decoder block is the encoder's output, unchanged."""
    network = small_network("unet", base_channels=4)
    seen: list[Tensor] = []
    block = network.get_submodule(level)
    block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    down = network.get_submodule(level.replace("Up", "Down"))
    skips: list[Tensor] = []
    down.register_forward_hook(lambda _, __, output: skips.append(output))
    with torch.inference_mode():
        network(random_images(1, 3, 32, 32))
    width = skips[0].shape[1]
    assert seen[0].shape[1] == 3 * width
    assert torch.equal(seen[0][:, :width], skips[0])


def report_unet(images: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """The network in the design's words, from functions and a state_dict alone."""

    def block(x: Tensor, name: str) -> Tensor:
        for layer, norm in ((0, 1), (3, 4)):
            weight, bias = state[f"{name}.{layer}.weight"], state[f"{name}.{layer}.bias"]
            x = F.conv2d(x, weight, bias, padding=1)
            mean, variance = (state[f"{name}.{norm}.running_{s}"] for s in ("mean", "var"))
            scale, shift = state[f"{name}.{norm}.weight"], state[f"{name}.{norm}.bias"]
            x = F.relu(F.batch_norm(x, mean, variance, scale, shift))
        return x

    skips = []
    x = images
    for level in (1, 2, 3, 4):
        x = block(x, f"convDown{level}")
        skips.append(x)
        x = F.max_pool2d(x, 2, 2)
    x = block(x, "convDown5")
    for level in (4, 3, 2, 1):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = block(torch.cat([skips[level - 1], x], 1), f"convUp{level}")
    return F.conv2d(x, state["convUp_fin.weight"], state["convUp_fin.bias"])
