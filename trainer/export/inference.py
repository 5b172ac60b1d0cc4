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


TILES_PER_IMAGE = 4  # of one image in calibration: it is to see many images, not many tiles of one


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


def chosen_labels(forward: Forward, image: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (C, H, W) -> uint8 (H, W) class ids at the image's own size."""
    return segment_image(image, spec, forward, device=CPU, batch_size=1).labels
