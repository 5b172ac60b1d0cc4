"""Where the tiles of a sliding window lie in an image, and what each of them has a say in."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.geometry import PADDING_COLOR
from models.manifest import InputSpec


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

    def reached(self, index: int) -> int:
        """How many pixels a tile has in common with the one before it."""
        return self.span - self.step(index - 1) if index > 0 else 0

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


def crop(pixels: Tensor, tile: Tile) -> Tensor:
    """uint8 (3, H, W) -> (3, tile.height, tile.width), grey beyond the right and bottom border."""
    bottom, right = tile.top + tile.height, tile.left + tile.width
    part = pixels[:, tile.top : bottom, tile.left : right]
    missing = (0, tile.width - part.shape[2], 0, tile.height - part.shape[1])
    return F.pad(part, missing, value=PADDING_COLOR)
