"""`check`: everything that would stop or spoil a training run, found before it starts."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.dataset import VocFolder
from trainer.errors import DatasetError

MAX_LISTED_PROBLEMS = 50


@dataclass
class SplitAudit:
    """What one split holds. `pixels` counts (K,) labelled pixels per class."""

    name: str
    images: int
    pixels: NDArray[np.int64]
    images_with_class: NDArray[np.int64]
    ignored_pixels: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def shares(self) -> NDArray[np.float64]:
        """(K,) each class's share of the labelled pixels."""
        total = max(int(self.pixels.sum()), 1)
        return self.pixels / total


def available_splits(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt"))


def audit_split(folder: VocFolder, split: str, *, limit: int | None = None) -> SplitAudit:
    """Reads every image and mask of a split; problems are collected, one line each."""
    count = len(folder.class_set)
    zeros = np.zeros(count, dtype=np.int64)
    try:
        ids = folder.split(split)[:limit]
    except DatasetError as error:
        return SplitAudit(split, 0, zeros, zeros.copy(), problems=[str(error)])
    audit = SplitAudit(split, len(ids), zeros, zeros.copy())
    for image_id in ids:
        try:
            image, labels = folder.read_pair(image_id)
        except DatasetError as error:
            audit.problems.append(str(error))
            continue
        counts = np.bincount(labels.numpy().ravel(), minlength=256)
        audit.pixels += counts[:count]
        audit.images_with_class += counts[:count] > 0
        audit.ignored_pixels += int(counts[folder.class_set.ignore_index])
        audit.sizes[(image.shape[2], image.shape[1])] += 1
    if not audit.problems and not audit.pixels.any():
        audit.problems.append(f"split {split}: no pixel is labelled, every one is ignored")
    return audit


def overlap(folder: VocFolder, first: str, second: str) -> str | None:
    """A sentence when two splits share images: figures on the second would be flattered."""
    try:
        common = sorted(set(folder.split(first)) & set(folder.split(second)))
    except DatasetError:
        return None  # reported by the audit of that split
    if not common:
        return None
    return f"splits {first} and {second} share {len(common)} images, {common[0]} among them"
