"""Sliding window: an image at its own resolution, tile by tile, blended so that no seam shows.

For networks trained on crops. Memory follows the tile, and what one band of tiles has in common
with the next, never the image.
"""

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor

from models.blend import Blend
from models.geometry import network_input
from models.grid import Grid, Tile, crop
from models.manifest import InputSpec
from models.network import Forward
from models.upsample import Segmentation


@torch.inference_mode()
def segment_tiled(
    pixels: Tensor,
    spec: InputSpec,
    forward: Forward,
    *,
    batch_size: int,
    device: torch.device,
    on_tiles: Callable[[list[Tile], Tensor], None] | None = None,
) -> Segmentation:
    """Segments uint8 (3, H, W) at its own resolution, `batch_size` tiles at a time.

    `forward` maps normalised (N, 3, h, w) to logits (N, K, ~h, ~w), which are interpolated to the
    tiles' pixels; `on_tiles` sees the tiles of every pass and their logits. What an image smaller
    than a tile lacks is grey.

    Overlapping tiles are blended as softmax probabilities, not logits: the mean of distributions
    is a distribution, whose largest value is the confidence, and a tile that is wildly sure, as
    networks are where a thing is cut off, still has no more than its weight's say. An image of one
    tile is the plain forward pass.
    """
    grid = Grid.over(pixels.shape[1], pixels.shape[2], spec)
    tiles = iter(grid)
    blend = None
    while batch := list(islice(tiles, batch_size)):
        crops = torch.stack([crop(pixels, tile) for tile in batch])  # (N, 3, h, w)
        logits = forward(network_input(crops, spec, device))  # (N, K, ~h, ~w)
        if on_tiles is not None:
            on_tiles(batch, logits)
        blend = blend or Blend(grid, logits.shape[1], logits.device)
        for each in logits:
            blend.add(each)
    assert blend is not None  # a grid has at least one tile
    return blend.finish()
