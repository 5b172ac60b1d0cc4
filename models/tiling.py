"""Sliding window: an image at its own resolution, tile by tile, blended so that no seam shows.

For networks trained on crops. Memory follows the tile, and what one band of tiles has in common
with the next, never the image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from models.devices import exact_device
from models.geometry import PADDING_COLOR, network_input
from models.manifest import InputSpec
from models.network import Forward
from models.upsample import Segmentation, segment_probabilities
from models.winners import class_sums, winners


@dataclass(frozen=True)
class Tile:
    """A window of height x width pixels; one over a smaller image reaches beyond its right or
    bottom border."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Axis:
    """`count` tiles along a side of `length` pixels, evenly spread, the last ending at its end.

    Positions are computed when asked for: a side can have hundreds of thousands.
    """

    length: int
    tile: int
    count: int

    @classmethod
    def spread(cls, length: int, tile: int, *, overlap: float) -> "Axis":
        """As few tiles as leave neighbours at least `overlap` of a tile in common."""
        step = max(1, int(tile * (1 - overlap)))
        return cls(length, tile, 1 + max(0, -(-(length - tile) // step)))

    @property
    def span(self) -> int:
        """How many of a tile's pixels lie in the image."""
        return min(self.tile, self.length)

    def start(self, index: int) -> int:
        return index * (self.length - self.tile) // (self.count - 1) if self.count > 1 else 0

    def step(self, index: int) -> int:
        """From the start of a tile to that of the next, or to the end of the side."""
        following = self.start(index + 1) if index + 1 < self.count else self.length
        return following - self.start(index)

    @property
    def common(self) -> int:
        """How many pixels at most a tile has in common with those that follow."""
        steps = self.count - 1
        return self.tile - (self.length - self.tile) // steps if steps else 0

    def weights(self, index: int) -> Tensor:
        """float32 (span,): one tile's share at each of its pixels; at any pixel of the side the
        shares of all tiles add up to 1, and where a tile is alone its share is 1 exactly."""
        window = _raised_cosine(self.tile)[: self.span]
        total = window.clone()
        for direction in (-1, 1):
            other = index + direction
            while 0 <= other < self.count:
                shift = self.start(other) - self.start(index)
                if abs(shift) >= self.tile:
                    break
                begin, end = max(shift, 0), self.tile + min(shift, 0)
                total[begin:end] += window[begin - shift : end - shift]
                other += direction
        return (window / total).float()


def _raised_cosine(tile: int) -> Tensor:
    """float64 (tile,), a Hann window sampled at the pixels' centres, so that it is never zero: a
    tile says little near its border, where the network saw only half of what surrounds a pixel."""
    centers = (torch.arange(tile, dtype=torch.float64) + 0.5) / tile
    return torch.sin(torch.pi * centers) ** 2


@dataclass(frozen=True)
class Grid:
    """The tiles of one image, band by band: row by row, or in an image that is wider than high
    column by column, so that a band is as short as can be."""

    rows: Axis
    columns: Axis

    @classmethod
    def over(cls, height: int, width: int, spec: InputSpec) -> "Grid":
        return cls(
            Axis.spread(height, spec.height, overlap=spec.overlap),
            Axis.spread(width, spec.width, overlap=spec.overlap),
        )

    @property
    def turned(self) -> bool:
        return self.columns.length > self.rows.length

    @property
    def along(self) -> Axis:
        """From one band to the next."""
        return self.columns if self.turned else self.rows

    @property
    def across(self) -> Axis:
        """Within a band."""
        return self.rows if self.turned else self.columns

    def __len__(self) -> int:
        return self.rows.count * self.columns.count

    def __iter__(self) -> Iterator[Tile]:
        for band in range(self.along.count):
            for place in range(self.across.count):
                row, column = (place, band) if self.turned else (band, place)
                yield Tile(
                    self.rows.start(row),
                    self.columns.start(column),
                    self.rows.tile,
                    self.columns.tile,
                )


class Blend:
    """The weighted sum of the tiles' probabilities, added in the grid's order.

    A pixel's class is chosen, and its sums forgotten, with the last tile that reaches it. It holds
    one tile's sums, and what tiles have in common with those to come: (K, overlap, across) float32
    of the next band's, and the last columns of one tile.
    """

    def __init__(self, grid: Grid, num_classes: int, device: torch.device) -> None:
        self._grid = grid
        self._added = 0
        self._device = device = exact_device(device)
        shape = (grid.rows.length, grid.columns.length)
        self._labels = torch.empty(shape, dtype=torch.uint8, device=device)
        self._pixels = torch.zeros(num_classes, dtype=torch.int64, device=device)
        self._confidence = torch.zeros(num_classes, dtype=torch.float64, device=device)
        along, across = grid.along, grid.across

        def planes(rows: int, columns: int) -> Tensor:
            """float32 (K, along, across), in memory as the tiles are."""
            size = (columns, rows) if grid.turned else (rows, columns)
            return self._upright(torch.empty(num_classes, *size, device=device))

        self._tile = planes(along.span, across.span)
        self._beside = planes(along.span, across.common)
        self._below = planes(along.common, across.length)

    def add(self, probability: Tensor) -> None:
        """(K, h, w) of the next tile."""
        along, across = self._grid.along, self._grid.across
        band, place = divmod(self._added, across.count)
        top, left = along.start(band), across.start(place)
        depth, width = along.step(band), across.step(place)  # of what no later tile reaches
        weights = along.weights(band)[:, None] * across.weights(place)  # (along, across)
        shares = self._upright(probability.to(self._device))[:, : along.span, : across.span]
        sums = torch.mul(shares, weights.to(self._device), out=self._tile)  # (K, along, across)
        if place > 0:
            reached = across.span - across.step(place - 1)
            sums[:, :, :reached] += self._beside[:, :, :reached]
        self._beside[:, :, : across.span - width] = sums[:, :, width:]
        sums = sums[:, :, :width]
        if band > 0:
            reached = along.span - along.step(band - 1)
            sums[:, :reached] += self._below[:, :reached, left : left + width]
        self._below[:, : along.span - depth, left : left + width] = sums[:, depth:]
        self._settle(sums[:, :depth], top, left)
        self._added += 1

    def finish(self) -> Segmentation:
        """The whole image's answer, once every tile was added."""
        return Segmentation(self._labels, self._pixels, self._confidence)

    def _settle(self, sums: Tensor, top: int, left: int) -> None:
        """Chooses the classes where the sums (K, along, across) are complete."""
        best, chosen = winners(sums)
        _, depth, width = sums.shape
        labels = self._labels.T if self._grid.turned else self._labels
        labels[top : top + depth, left : left + width] = chosen
        counts, confidence = class_sums(chosen, best, len(self._pixels))
        self._pixels += counts
        self._confidence += confidence

    def _upright(self, planes: Tensor) -> Tensor:
        """(K, rows, columns) <-> (K, along, across)."""
        return planes.transpose(1, 2) if self._grid.turned else planes


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

    `forward` maps normalised (N, 3, h, w) to logits (N, K, h, w); `on_tiles` sees the tiles of
    every pass and their logits. What an image smaller than a tile lacks is grey.

    Overlapping tiles are blended as softmax probabilities, not logits: the mean of distributions
    is a distribution, whose largest value is the confidence, and a tile that is wildly sure, as
    networks are where a thing is cut off, still has no more than its weight's say. An image of one
    tile is the plain forward pass.
    """
    _, height, width = pixels.shape
    grid = Grid.over(height, width, spec)
    tiles = iter(grid)
    blend = None
    while batch := list(islice(tiles, batch_size)):
        crops = torch.stack([crop(pixels, tile) for tile in batch])  # (N, 3, h, w)
        logits = forward(network_input(crops, spec, device))  # (N, K, h, w)
        if on_tiles is not None:
            on_tiles(batch, logits)
        probabilities = logits.float().softmax(1)
        if len(grid) == 1:
            return segment_probabilities(probabilities[0, :, :height, :width], height, width)
        blend = blend or Blend(grid, logits.shape[1], logits.device)
        for probability in probabilities:
            blend.add(probability)
    assert blend is not None  # a grid has at least one tile
    return blend.finish()


def crop(pixels: Tensor, tile: Tile) -> Tensor:
    """uint8 (3, H, W) -> (3, tile.height, tile.width), grey beyond the right and bottom border."""
    bottom, right = tile.top + tile.height, tile.left + tile.width
    part = pixels[:, tile.top : bottom, tile.left : right]
    missing = (0, tile.width - part.shape[2], 0, tile.height - part.shape[1])
    return F.pad(part, missing, value=PADDING_COLOR)
