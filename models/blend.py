"""Tiles put together so that no seam shows, with memory for what tiles have in common."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.cpu_blend import Common, Side, blend_tile
from models.devices import exact_device
from models.grid import Grid
from models.upsample import Segmentation
from models.winners import class_sums, winners


class Blend:
    """The weighted sum of the tiles' probabilities, added in the grid's order.

    A pixel's class is chosen, and its sums forgotten, with the last tile that reaches it. It holds
    what tiles have in common with those to come, float32 (K, overlap, across) of the next band's
    and the last columns of one tile; while one is added, what that comes to: a row of it where it
    is compiled, elsewhere all of it.
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

        self._beside = planes(along.span, across.common)
        self._below = planes(along.common, across.length)

    def add(self, logits: Tensor) -> None:
        """(K, ~h, ~w) of the next tile, as `SegmentationNetwork.native_logits`: they are
        interpolated to its pixels. ValueError for another number of classes."""
        if len(logits) != len(self._pixels):
            raise ValueError(f"a tile of {len(logits)} classes, expected {len(self._pixels)}")
        band, place = divmod(self._added, self._grid.across.count)
        logits = logits.to(self._device)
        if not (self._device.type == "cpu" and self._add_compiled(logits, band, place)):
            self._add_by_operators(self._at_pixels(logits.float()).softmax(0), band, place)
        self._added += 1

    def finish(self) -> Segmentation:
        """The whole image's answer, once every tile was added."""
        return Segmentation(self._labels, self._pixels, self._confidence)

    def _add_compiled(self, logits: Tensor, band: int, place: int) -> bool:
        """False where it was not compiled."""
        along, across = self._grid.along, self._grid.across
        top, left = along.start(band), across.start(place)
        beside = Common(self._beside, across.reached(place), across.step(place))
        below = Common(self._below[:, :, left:], along.reached(band), along.step(band))
        return blend_tile(
            logits,
            Side(along.tile, along.weights(band)),
            Side(across.tile, across.weights(place)),
            below,
            beside,
            self._upright_labels()[top:, left:],
            self._pixels,
            self._confidence,
            turned=self._grid.turned,
        )

    def _at_pixels(self, logits: Tensor) -> Tensor:
        """(K, ~h, ~w) -> (K, h, w)."""
        size = self._grid.rows.tile, self._grid.columns.tile
        if logits.shape[1:] == size:
            return logits
        return F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]

    def _add_by_operators(self, probability: Tensor, band: int, place: int) -> None:
        along, across = self._grid.along, self._grid.across
        top, left = along.start(band), across.start(place)
        depth, width = along.step(band), across.step(place)  # of what no later tile reaches
        weights = along.weights(band)[:, None] * across.weights(place)  # (along, across)
        shares = self._upright(probability)[:, : along.span, : across.span]
        sums = shares * weights.to(self._device)  # (K, along, across)
        reached = across.reached(place)
        sums[:, :, :reached] += self._beside[:, :, :reached]
        self._beside[:, :, : across.span - width] = sums[:, :, width:]
        sums = sums[:, :, :width]
        reached = along.reached(band)
        sums[:, :reached] += self._below[:, :reached, left : left + width]
        self._below[:, : along.span - depth, left : left + width] = sums[:, depth:]
        self._settle(sums[:, :depth], top, left)

    def _settle(self, sums: Tensor, top: int, left: int) -> None:
        """Chooses the classes where the sums (K, along, across) are complete."""
        best, chosen = winners(sums)
        _, depth, width = sums.shape
        self._upright_labels()[top : top + depth, left : left + width] = chosen
        counts, confidence = class_sums(chosen, best, len(self._pixels))
        self._pixels += counts
        self._confidence += confidence

    def _upright(self, planes: Tensor) -> Tensor:
        """(K, rows, columns) <-> (K, along, across)."""
        return planes.transpose(1, 2) if self._grid.turned else planes

    def _upright_labels(self) -> Tensor:
        """(along, across)."""
        return self._labels.T if self._grid.turned else self._labels
