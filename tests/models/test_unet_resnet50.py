"""The report's second network, against its description."""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import build
from tests.models.network_contract import NetworkContract
from tests.models.state_contract import Shapes, batch_norm, conv, convolution
from tests.networks import random_images, small_network


class TestUNetResNet50(NetworkContract):
    name = "unet_resnet50"
    stride = 8


def residual_block(
    prefix: str, before: int, middle: int, after: int, *, shortcut: str = "make_equal_channel"
) -> Shapes:
    return {
        **convolution(f"{prefix}.layer.0.0", middle, before, 1, 1, bias=middle),
        **batch_norm(f"{prefix}.layer.0.1", middle),
        **convolution(f"{prefix}.layer.1.0", middle, middle, 3, 3, bias=middle),
        **batch_norm(f"{prefix}.layer.1.1", middle),
        **convolution(f"{prefix}.layer.2.0", after, middle, 1, 1, bias=after),
        **batch_norm(f"{prefix}.layer.2.1", after),
        **convolution(f"{prefix}.{shortcut}.0", after, before, 1, 1, bias=after),
        **batch_norm(f"{prefix}.{shortcut}.1", after),
    }


def expected_shapes() -> Shapes:
    return {
        **convolution("layer1.0", 64, 3, 7, 7, bias=64),
        **batch_norm("layer1.1", 64),
        **residual_block("layer2.0", 64, 64, 256),
        **residual_block("layer2.1", 256, 64, 256),
        **residual_block("layer2.2", 256, 64, 256, shortcut="downsize"),
        **residual_block("layer3.0", 256, 128, 512),
        **residual_block("layer3.1", 512, 128, 512),
        **residual_block("layer3.2", 512, 128, 512),
        **residual_block("layer3.3", 512, 128, 512),
        **conv("bridge", 512, 512),
        **convolution("UpConv1", 256, 512, 3, 3, bias=256),
        **conv("UnetConv1", 512, 256),
        **convolution("upconv2_1", 256, 256, 3, 3, bias=256),
        **convolution("upconv2_2", 64, 256, 3, 3, bias=64),
        **convolution("UnetConv2_1", 64, 128, 3, 3, bias=64),
        **convolution("UnetConv2_2", 64, 64, 3, 3, bias=64),
        **convolution("UnetConv2_3", 22, 64, 1, 1, bias=22),
    }


def test_has_the_keys_and_shapes_of_existing_checkpoints() -> None:
    with torch.device("meta"):
        state = build("unet_resnet50", num_classes=22).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == expected_shapes()


def test_has_the_reports_number_of_parameters() -> None:
    with torch.device("meta"):
        network = build("unet_resnet50", num_classes=22)
    assert sum(parameter.numel() for parameter in network.parameters()) == 10_895_958


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(64, 64), (32, 80)])
def test_computes_what_the_report_describes(batch: int, size: tuple[int, int]) -> None:
    network = small_network("unet_resnet50", num_classes=22, base_channels=4)
    images = random_images(batch, 3, *size)
    with torch.inference_mode():
        actual = network(images)
        expected = report_unet_resnet50(images, network.state_dict())
    assert expected.std() > 0.01  # not a comparison of constants
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("skip", "block"), [("layer2", "UnetConv1"), ("pool", "UnetConv2_1")])
def test_concatenates_the_skip_before_the_decoded_features(skip: str, block: str) -> None:
    network = small_network("unet_resnet50")
    skips: list[Tensor] = []
    seen: list[Tensor] = []
    network.get_submodule(skip).register_forward_hook(lambda _, __, out: skips.append(out))
    network.get_submodule(block).register_forward_pre_hook(lambda _, ins: seen.append(ins[0]))
    with torch.inference_mode():
        network(random_images(1, 3, 64, 64))
    width = skips[0].shape[1]
    scale = seen[0].shape[-1] // skips[0].shape[-1]  # the second skip is enlarged before its block
    enlarged = skips[0].repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    assert seen[0].shape[1] == 2 * width
    assert torch.equal(seen[0][:, :width], enlarged)


def report_unet_resnet50(images: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """The network in the design's words, from functions and a state_dict alone; sizes that are
    multiples of 8."""

    def convolve(x: Tensor, name: str, *, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)

    def double(x: Tensor, name: str) -> Tensor:
        """Transposed, kernel 3, stride 2, padding 1, to exactly twice the size."""
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"])

    def block(x: Tensor, name: str) -> Tensor:
        x = F.relu(norm(convolve(x, f"{name}.0", padding=1), f"{name}.1"))
        return F.relu(norm(convolve(x, f"{name}.3", padding=1), f"{name}.4"))

    def residual(x: Tensor, name: str, *, downsample: bool = False) -> Tensor:
        stride, shortcut = (2, "downsize") if downsample else (1, "make_equal_channel")
        y = convolve(x, f"{name}.layer.0.0", stride=stride)
        y = F.relu(norm(y, f"{name}.layer.0.1"))
        y = convolve(y, f"{name}.layer.1.0", padding=1)
        y = F.relu(norm(y, f"{name}.layer.1.1"))
        y = norm(convolve(y, f"{name}.layer.2.0"), f"{name}.layer.2.1")
        x = convolve(x, f"{name}.{shortcut}.0", stride=stride)
        return F.relu(y + norm(x, f"{name}.{shortcut}.1"))

    x = F.relu(norm(convolve(images, "layer1.0", stride=2, padding=3), "layer1.1"))
    out1 = x = F.max_pool2d(x, 3, stride=2, padding=1)
    x = residual(residual(x, "layer2.0"), "layer2.1")
    out2 = x = residual(x, "layer2.2", downsample=True)
    for index in range(4):
        x = residual(x, f"layer3.{index}")
    x = convolve(block(x, "bridge"), "UpConv1", padding=1)
    x = block(torch.cat([out2, x], 1), "UnetConv1")
    x = convolve(double(x, "upconv2_1"), "upconv2_2", padding=1)
    x = torch.cat([out1, x], 1)
    x = convolve(F.interpolate(x, scale_factor=2, mode="nearest"), "UnetConv2_1", padding=1)
    return convolve(double(x, "UnetConv2_2"), "UnetConv2_3")
