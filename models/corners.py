"""Classes of an image's pixels without visiting most of them, on the CPU.

Interpolation is a weighted mean, so where the same class leads at all four corners around a pixel
it leads at the pixel too. Only the pixels between corners that disagree, a few in a hundred on
photographs, are computed class by class.

All of it by NumPy, for the reason that `winners` gives.
"""

import numpy as np
from numpy.typing import NDArray

from models.samples import Samples
from models.winners import Bins, Labels, Numbers, Values, leading

MIXED = 255  # no class has this id
MAX_ELEMENTS = 1 << 19  # probabilities interpolated at a time
MAX_PIXELS = 1 << 22  # labels searched at a time for pixels between classes


class Corners:
    """Of a source with the probabilities (C, h, w) of the classes int64 (C,), ascending.

    `classes` are those of them that can be chosen between pixels, `planes` float32 (C, h, w)
    theirs; `mixed` is the share of places between pixels whose corners disagree.
    """

    def __init__(self, planes: Values, classes: Numbers) -> None:
        self._best, winning = leading(planes, classes)  # (h, w)
        self._at = _where_corners_agree(winning)
        self.mixed = np.count_nonzero(self._at == MIXED) / self._at.size
        contending = _contending(planes, self._best)
        whole = len(contending) == len(classes)
        self.planes = planes if whole else planes.take(contending, 0)
        self.classes = classes[contending]

    def segment(
        self, height: int, width: int, num_classes: int
    ) -> tuple[Labels, Numbers, NDArray[np.float64]]:
        """`labels`, `pixels` and `confidence` of a `Segmentation`."""
        source_height, source_width = self._at.shape
        rows = Samples.between(source_height, height)
        columns = Samples.between(source_width, width)
        pixels, confidence = self._settled_sums(rows, columns, num_classes)
        labels = self._spread(rows, columns)
        flat = labels.reshape(-1)  # (H W,)
        lines = self.planes.reshape(len(self.classes), -1)  # (C, h w)
        step = max(1, MAX_ELEMENTS // len(lines))
        for begin in range(0, len(flat), MAX_PIXELS):
            places = np.flatnonzero(flat[begin : begin + MAX_PIXELS] == MIXED) + begin
            for start in range(0, len(places), step):
                part = places[start : start + step]
                best, chosen = leading(_interpolated(lines, part, rows, columns), self.classes)
                flat[part] = chosen
                bins = Bins(chosen, num_classes)
                pixels += bins.counts()
                confidence += bins.sums(best)
        return labels, pixels, confidence

    def _settled_sums(
        self, rows: Samples, columns: Samples, num_classes: int
    ) -> tuple[Numbers, NDArray[np.float64]]:
        """How many pixels lie between corners that agree, and the sum of their probabilities, for
        each class. Without visiting them: with which weights they take the corners is a product of
        rows and columns."""
        high, below = rows.shares()  # (h,)
        wide, right = columns.shares()  # (w,)
        # from the last row and the last column nothing is taken of a next
        vertical = self._best * _float32(high - below)[:, None]
        vertical[:-1] += self._best[1:] * _float32(below)[:-1, None]
        probability = vertical * _float32(wide - right)
        probability[:, :-1] += vertical[:, 1:] * _float32(right)[:-1]
        bins = Bins(np.minimum(self._at, num_classes), num_classes + 1)  # MIXED is the last
        pixels = bins.sums(np.outer(high, wide))[:num_classes].round().astype(np.int64)
        return pixels, bins.sums(probability)[:num_classes]

    def _spread(self, rows: Samples, columns: Samples) -> Labels:
        """(H, W): every pixel what stands at the upper left of its corners."""
        height, width = self._at.shape
        if height * len(columns.low) > len(rows.low) * width:  # the smaller intermediate
            return self._at.take(rows.low, 0).take(columns.low, 1)
        return self._at.take(columns.low, 1).take(rows.low, 0)


def _where_corners_agree(labels: Labels) -> Labels:
    """(h, w): the class of a source pixel where its right, lower and lower right neighbour are of
    the same, otherwise MIXED. The last row and column are their own neighbours."""
    beside = np.ones(labels.shape, bool)  # of the same class as the right neighbour
    np.equal(labels[:, :-1], labels[:, 1:], out=beside[:, :-1])
    agree = beside.copy()
    agree[:-1] &= beside[1:]
    agree[:-1] &= labels[:-1] == labels[1:]
    return np.where(agree, labels, np.uint8(MIXED))


def _contending(planes: Values, best: Values) -> Numbers:
    """int64 (C,): which of the classes (K, h, w) can be chosen between pixels, given the highest
    of each pixel.

    A pixel takes at least a quarter of one of its four corners, so what is chosen has at least a
    quarter of the lowest of `best`.
    """
    least = np.float32(0.2499) * best.min()  # rounding is not to rule one out
    return np.flatnonzero(~(planes.max((1, 2)) < least))  # NaN rules none out


def _interpolated(lines: Values, positions: Numbers, rows: Samples, columns: Samples) -> Values:
    """(C, h w), at flat positions (n,) of the image -> (C, n)."""
    row, column = np.divmod(positions, len(columns.low))
    left, right, across = columns.low[column], columns.next[column], columns.weight[column]
    above, below = rows.low[row] * columns.source, rows.next[row] * columns.source

    def along(line: Numbers) -> Values:
        return _between(lines.take(line + left, 1), lines.take(line + right, 1), across)

    return _between(along(above), along(below), rows.weight[row])


def _between(begin: Values, end: Values, weight: Values) -> Values:
    """A share of the way, written over `end`."""
    end -= begin
    end *= weight
    end += begin
    return end


def _float32(values: NDArray[np.float64]) -> Values:
    return values.astype(np.float32)
