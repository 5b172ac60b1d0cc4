"""A tile's share of blended probabilities on the CPU, by blend.c."""

from ctypes import byref
from dataclasses import dataclass

from torch import Tensor

from models import compiled
from models.cpu_logits import LogitsInMemory


@dataclass(frozen=True)
class Common:
    """Sums float32 (K, along, across) that a tile has in common with another: `reach` rows or
    columns of it with the one before, and those from `cut` on with the one after."""

    sums: Tensor
    reach: int
    cut: int

    def in_memory(self, *, turned: bool) -> compiled.CommonLayout:
        sums = self.sums.transpose(1, 2) if turned else self.sums  # (K, rows, columns)
        plane, line, _ = sums.stride()
        return compiled.CommonLayout(sums.data_ptr(), plane, line, self.reach, self.cut)


@dataclass(frozen=True)
class Side:
    """A side of a tile of so many `pixels`, and the `weights` float32 of those in the image."""

    pixels: int
    weights: Tensor

    def in_memory(self) -> compiled.SideLayout:
        return compiled.SideLayout(self.pixels, len(self.weights), self.weights.data_ptr())


def blend_tile(
    logits: Tensor,
    along: Side,
    across: Side,
    below: Common,
    beside: Common,
    labels: Tensor,
    pixels: Tensor,
    confidence: Tensor,
    *,
    turned: bool,
) -> bool:
    """Adds the softmax of (K, ~h, ~w), interpolated to the tile's pixels, times the product of the
    weights along and across, as far as those reach. What no later tile reaches goes to `labels`
    (along, across), which begin with the tile, to `pixels` int64 (K,) and `confidence` float64
    (K,). `turned` says that rows in memory are across. False where blend.c was not compiled;
    ValueError as `LogitsInMemory`."""
    library = compiled.library()
    if library is None:
        return False
    if turned:
        labels = labels.T
        rows, columns, right, down = across, along, below, beside
    else:
        rows, columns, right, down = along, across, beside, below
    tile = LogitsInMemory(logits)
    if not library.blend(
        *(library.instructions(), byref(tile)),
        *(byref(rows.in_memory()), byref(columns.in_memory())),
        *(byref(right.in_memory(turned=turned)), byref(down.in_memory(turned=turned)), turned),
        *(labels.data_ptr(), labels.stride(0), pixels.data_ptr(), confidence.data_ptr()),
    ):
        raise MemoryError("no memory for a row of a tile")
    return True
