"""Post-training quantisation to int8: what the network's ranges are measured on, and how."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.geometry import network_input, resize_pixels
from models.grid import Grid, crop
from models.manifest import InputSpec
from models.private_import import import_private

TILES_PER_IMAGE = 4  # of one image in calibration: it is to see many images, not many tiles of one
TRANSPOSED = "ConvolutionBackpropData", "GroupConvolutionBackpropData"
CPU = torch.device("cpu")


def network_inputs(image: Tensor, spec: InputSpec) -> Iterator[Tensor]:
    """uint8 (C, H, W) -> what calibration is given of it, float32 (1, C, h, w) each: the whole, or
    a few tiles spread over it."""
    if spec.mode == "tile":
        _, height, width = image.shape
        tiles = list(Grid.over(height, width, spec))
        for index in range(input_count(height, width, spec)):
            tile = tiles[index * len(tiles) // input_count(height, width, spec)]
            yield network_input(crop(image, tile)[None], spec, CPU)
    else:
        small = resize_pixels(image, spec.height, spec.width)
        yield network_input(small[None], spec, CPU)


def input_count(height: int, width: int, spec: InputSpec) -> int:
    """How many inputs `network_inputs` makes of an image of this size."""
    return min(TILES_PER_IMAGE, len(Grid.over(height, width, spec))) if spec.mode == "tile" else 1


def quantised(model: Any, inputs: Iterable[Tensor], count: int) -> Any:
    """An OpenVINO model in int8; `inputs` are `count` network inputs, (1, C, h, w) each, read once
    for every pass that quantisation makes. ImportError where nncf is not installed."""
    nncf = import_private("nncf")
    int8 = nncf.quantize(
        model,
        nncf.Dataset(inputs, lambda image: image.contiguous().numpy()),
        # activations of both signs keep theirs: cheaper symmetric weights, exact ranges
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=count,
    )
    _centre_inputs_of_transposed_convolutions(int8)
    return int8


def _centre_inputs_of_transposed_convolutions(model: Any) -> None:
    """Signed ranges become symmetric there: OpenVINO's CPU plugin has no int8 transposed
    convolution of activations with a zero point, and would run it in float32."""
    quantisers = [node for node in model.get_ops() if node.get_type_name() == "FakeQuantize"]
    for quantiser in quantisers:
        consumers = [port.get_node() for port in quantiser.output(0).get_target_inputs()]
        if all(consumer.get_type_name() in TRANSPOSED for consumer in consumers):
            _centre(quantiser)
    model.validate_nodes_and_infer_types()


def _centre(quantiser: Any) -> None:
    """[low, high] -> [-bound, bound * 127 / 128], whose middle is a level of the 256."""
    low, high = (quantiser.input_value(port).get_node().data for port in (1, 2))
    if (low >= 0).all():
        return
    opset = import_private("openvino").opset13
    bound = np.maximum(-low, high * 128 / 127).astype(np.float32)
    for ports, values in (((1, 3), -bound), ((2, 4), bound * np.float32(127 / 128))):
        for port in ports:
            quantiser.input(port).replace_source_output(opset.constant(values).output(0))
