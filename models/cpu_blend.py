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


def blend_tile(
    logits: Tensor,
    weights: tuple[Tensor, Tensor],
    below: Common,
    beside: Common,
    labels: Tensor,
    pixels: Tensor,
    confidence: Tensor,
    *,
    turned: bool,
) -> bool:
    """Adds the softmax of (K, h, w) times the product of the `weights` along and across, as far as
    those reach. What no later tile reaches goes to `labels` (along, across), which begin with the
    tile, to `pixels` int64 (K,) and `confidence` float64 (K,). `turned` says that rows in memory
    are across. False where blend.c was not compiled; ValueError as `LogitsInMemory`."""
    library = compiled.library()
    if library is None:
        return False
    if turned:
        labels = labels.T
        rows, columns, right, down = weights[1], weights[0], below, beside
    else:
        rows, columns, right, down = weights[0], weights[1], beside, below
    tile = LogitsInMemory(logits[:, : len(rows), : len(columns)])
    if not library.blend(
        *(library.instructions(), byref(tile), rows.data_ptr(), columns.data_ptr()),
        *(byref(right.in_memory(turned=turned)), byref(down.in_memory(turned=turned)), turned),
        *(labels.data_ptr(), labels.stride(0), pixels.data_ptr(), confidence.data_ptr()),
    ):
        raise MemoryError("no memory for a row of a tile")
    return True
