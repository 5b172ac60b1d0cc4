"""How an exported network is asked, which must be how the service asks the checkpoint."""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.geometry import network_input, resize_pixels
from models.manifest import InputSpec
from models.network import Forward
from models.segmentation import segment_image
from models.tiling import Grid, crop

CPU = torch.device("cpu")


def network_inputs(image: Tensor, spec: InputSpec) -> Iterator[Tensor]:
    """uint8 (C, H, W) -> what the network is given of it, float32 (1, C, h, w) each."""
    if spec.mode == "tile":
        _, height, width = image.shape
        for tile in Grid.over(height, width, spec):
            yield network_input(crop(image, tile)[None], spec, CPU)
    else:
        small = resize_pixels(image, spec.height, spec.width)
        yield network_input(small[None], spec, CPU)


def chosen_labels(forward: Forward, image: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (C, H, W) -> uint8 (H, W) class ids at the image's own size."""
    return segment_image(image, spec, forward, device=CPU, batch_size=1).labels
