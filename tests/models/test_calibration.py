"""int8: what of a quantised network a processor can run as such."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.calibration import (
    TILES_PER_IMAGE,
    _centre,
    input_count,
    network_inputs,
    quantised,
)
from models.manifest import InputSpec
from models.network import SegmentationNetwork
from service.engines.openvino_engine import convert

pytest.importorskip("openvino", reason="openvino is optional")
pytest.importorskip("nncf", reason="nncf is optional")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SHIFT = 0.5  # which makes ranges wider on one side


class Signed(SegmentationNetwork):
    """Activations of both signs before a convolution and before a transposed one."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 3
        self.num_classes = 4
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 4, 3, stride=2, padding=1, output_padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.second(self.first(images) + SHIFT) + SHIFT
        logits: Tensor = self.up(x)
        return logits


@pytest.fixture(scope="module")
def network() -> Signed:
    torch.manual_seed(0)
    return Signed().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(network: Signed) -> Any:
    return quantised(convert(network), [*_images(8)], 8)


def _images(count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(1, 3, 32, 32, generator=generator)


def test_transposed_convolutions_get_no_zero_point(model: Any) -> None:
    """The CPU plugin runs those that have one in float32, five times as slow."""
    low, high = _input_range(model, "ConvolutionBackpropData")
    assert low < 0
    assert high == pytest.approx(-low * 127 / 128, rel=1e-5)


def test_other_activations_keep_their_range(model: Any) -> None:
    low, high = _input_range(model, "Convolution", last=True)
    assert low < 0
    assert high > -1.1 * low, "as wide on either side: a bit is lost"


def test_the_wider_side_keeps_its_range() -> None:
    low, high = _centred(low=[-1.0], high=[2.0])
    assert high == pytest.approx([2.0])
    assert low == pytest.approx([-2.0 * 128 / 127])
    low, high = _centred(low=[-2.0], high=[1.0])
    assert low == [-2.0]


def test_channels_with_ranges_of_their_own_are_centred_if_one_of_them_is_signed() -> None:
    low, high = _centred(low=[-1.0, 0.0], high=[1.0, 3.0])
    assert (low < 0).all()
    assert high == pytest.approx(-low * 127 / 128)
    low, high = _centred(low=[0.0, 0.0], high=[1.0, 3.0])
    assert low.tolist() == [0.0, 0.0]
    assert high.tolist() == [1.0, 3.0]


def test_is_shown_a_few_tiles_spread_over_an_image() -> None:
    """Of 3x3 tiles beside each other, each of one colour."""
    tiles = torch.arange(9, dtype=torch.uint8).view(1, 3, 3) * 20
    image = tiles.repeat_interleave(16, 1).repeat_interleave(16, 2).expand(3, -1, -1)
    spec = InputSpec(
        mode="tile", height=16, width=16, mean=(0, 0, 0), std=(1, 1, 1), stride=2, overlap=0.0
    )
    shown = [float(each.mean()) * 255 / 20 for each in network_inputs(image, spec)]
    assert len(shown) == input_count(48, 48, spec) == TILES_PER_IMAGE
    assert shown == pytest.approx([0, 2, 4, 6], abs=1e-3)


def test_says_nearly_what_the_network_says(network: Signed, model: Any) -> None:
    import openvino

    run = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for image in _images(4):
        expected = network(image).numpy()
        error = np.linalg.norm(run(image.numpy())[0] - expected)
        assert error < 0.05 * np.linalg.norm(expected)


def _centred(*, low: list[float], high: list[float]) -> tuple[Any, Any]:
    """What becomes of the range of each channel, which goes in and comes out as it is."""
    from openvino import opset13 as ops

    shape = (1, len(low), 1, 1)
    bounds = [np.array(values, np.float32).reshape(shape) for values in (low, high, low, high)]
    quantiser = ops.fake_quantize(ops.parameter([1, len(low), 4, 4], np.float32), *bounds, 256)
    _centre(quantiser)
    found = [quantiser.input_value(port).get_node().data.ravel() for port in (1, 2, 3, 4)]
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[1], found[3])
    return found[0], found[1]


def _input_range(model: Any, kind: str, *, last: bool = False) -> tuple[float, float]:
    """Of the quantiser before the (last) node of this kind."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == kind]
    assert nodes, f"no {kind}"
    assert last or len(nodes) == 1
    quantiser = nodes[-1].input_value(0).get_node()
    assert quantiser.get_type_name() == "FakeQuantize"
    values = [quantiser.input_value(port).get_node().data for port in (1, 2, 3, 4)]
    low, high, *output = (float(value.reshape(-1)[0]) for value in values)
    assert output == [low, high]
    return low, high
