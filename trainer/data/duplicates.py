"""Images that are the same, or nearly: figures on a split that repeats training are flattered."""

import hashlib
import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

HASH_BITS = 64
MAX_KEPT_PAIRS = 1000  # frames of a film give tens of thousands
BLOCK_PAIRS = 1 << 22  # compared at a time: 40 MB, however many images there are

_BITS_OF_BYTE = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)

Hashes = NDArray[np.uint64]


def perceptual_hash(pixels: Tensor) -> int:
    """64 bits that change little when uint8 (3, H, W) is resized, recompressed or brightened:
    the signs of the lowest 8x8 frequencies about their median (Zauner 2010, pHash)."""
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    return int(str(imagehash.phash(image)), 16)


@dataclass(frozen=True, order=True)
class Pair:
    """Two images whose hashes differ in `distance` bits."""

    distance: int
    first: str
    second: str


@dataclass
class Pairs:
    """All of them counted, the closest kept."""

    count: int = 0
    closest: list[Pair] = field(default_factory=list)

    def add(self, pairs: list[Pair], count: int) -> None:
        self.count += count
        self.closest = heapq.nsmallest(MAX_KEPT_PAIRS, [*self.closest, *pairs])


def near_pairs(
    first: dict[str, int], second: dict[str, int] | None = None, *, max_distance: int
) -> Pairs:
    """Pairs of one image of each whose 64-bit hashes differ in at most `max_distance` bits; of two
    images of `first` where there is no second. Both map ids to hashes; an id is no pair with
    itself."""
    others = first if second is None else second
    names, other_names = list(first), list(others)
    hashes, other_hashes = _array(first), _array(others)
    place = {name: index for index, name in enumerate(other_names)}
    places = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    columns = np.arange(len(others))
    pairs = Pairs()
    rows_at_once = max(1, BLOCK_PAIRS // max(1, len(others)))
    for start in range(0, len(names), rows_at_once):
        rows = places[start : start + rows_at_once, None]
        distance = hamming(hashes[start : start + rows_at_once], other_hashes)  # (rows, others)
        near = distance <= max_distance
        near &= columns > rows if second is None else columns != rows
        found = near.nonzero()
        closest = np.argsort(distance[found], kind="stable")[:MAX_KEPT_PAIRS]
        kept = [
            Pair(int(distance[row, column]), names[start + row], other_names[column])
            for row, column in zip(found[0][closest], found[1][closest], strict=True)
        ]
        pairs.add(kept, len(found[0]))
    return pairs


def _array(hashes: dict[str, int]) -> Hashes:
    return np.fromiter(hashes.values(), dtype=np.uint64, count=len(hashes))


def hamming(first: Hashes, second: Hashes) -> NDArray[np.uint8]:
    """The bits in which each of (N,) differs from each of (M,): (N, M)."""
    different = first[:, None] ^ second[None, :]
    if hasattr(np, "bitwise_count"):
        counted: NDArray[np.uint8] = np.bitwise_count(different)
        return counted
    octets = different.view(np.uint8).reshape(*different.shape, 8)
    summed: NDArray[np.uint8] = _BITS_OF_BYTE[octets].sum(-1, dtype=np.uint8)
    return summed


def identical_files(paths: dict[str, Path]) -> list[list[str]]:
    """Ids whose files hold the same bytes, in groups of two and more. Only files of equal size are
    read."""
    by_size = defaultdict(list)
    for name, path in paths.items():
        by_size[path.stat().st_size].append(name)
    by_content = defaultdict(list)
    for names in by_size.values():
        for name in names if len(names) > 1 else []:
            by_content[hashlib.sha256(paths[name].read_bytes()).digest()].append(name)
    return sorted(sorted(names) for names in by_content.values() if len(names) > 1)
