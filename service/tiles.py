"""An image on its way through the device in tiles."""

from itertools import islice

import torch
from torch import Tensor

from models.blend import Blend
from models.grid import Grid, crop
from models.manifest import Manifest
from models.upsample import Segmentation


class TiledImage:
    """Hands out the tiles of uint8 (3, H, W) and puts their answers together, in order. Methods
    are called one at a time."""

    def __init__(self, pixels: Tensor, manifest: Manifest, device: torch.device) -> None:
        self._pixels = pixels
        grid = Grid.over(pixels.shape[1], pixels.shape[2], manifest.input)
        self._tiles = iter(grid)
        self._blend = Blend(grid, manifest.arguments.num_classes, device)

    def cut(self, count: int) -> list[Tensor]:
        """The next tiles, uint8 (3, h, w) each, `count` or as many as there are."""
        return [crop(self._pixels, tile) for tile in islice(self._tiles, count)]

    def exchange(self, logits: Tensor) -> list[Tensor]:
        """Takes the (K, ~h, ~w) of the next tile to be answered, gives the next one to be run."""
        self._blend.add(logits)
        return self.cut(1)

    def finish(self) -> Segmentation:
        """The whole image's answer, once every tile was exchanged."""
        return self._blend.finish()
