"""Datasets written file by file, for the tests that are about one file being odd."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.classes import ClassSet, SegmentationClass

Bytes = NDArray[np.uint8]

COLORS = {"ground": (0, 0, 0), "red": (255, 0, 0), "green": (0, 255, 0)}
THREE_CLASSES = ClassSet(
    tuple(SegmentationClass(i, name, color) for i, (name, color) in enumerate(COLORS.items()))
)


def empty_dataset(root: Path) -> Path:
    """The three folders, with nothing in them."""
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True, exist_ok=True)
    return root


def write_image(root: Path, image_id: str, pixels: Bytes, *, suffix: str = ".png") -> Path:
    """`pixels` uint8 (H, W, 3)."""
    path = root / "JPEGImages" / f"{image_id}{suffix}"
    Image.fromarray(pixels).save(path)
    return path


def write_mask(root: Path, image_id: str, ids: Bytes) -> Path:
    """`ids` uint8 (H, W), written as plain 8-bit values."""
    path = root / "SegmentationClass" / f"{image_id}.png"
    Image.fromarray(ids).save(path)
    return path


def write_split(root: Path, name: str, ids: Iterable[str]) -> Path:
    path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    path.write_text("".join(f"{image_id}\n" for image_id in ids))
    return path


def write_classes(root: Path, class_set: ClassSet) -> Path:
    path = root / "classes.json"
    entries = [{"id": c.id, "name": c.name, "color": list(c.color)} for c in class_set.classes]
    path.write_text(json.dumps({"classes": entries, "ignore_index": class_set.ignore_index}))
    return path


def noise(height: int, width: int, *, seed: int = 0) -> Bytes:
    """uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def quarters(height: int, width: int) -> Bytes:
    """Ids 0, 1, 2 and 255, a quarter of the mask each: uint8 (height, width)."""
    ids = np.zeros((height, width), dtype=np.uint8)
    ids[: height // 2, width // 2 :] = 1
    ids[height // 2 :, : width // 2] = 2
    ids[height // 2 :, width // 2 :] = 255
    return ids


def three_class_dataset(root: Path, *, count: int = 4, height: int = 20, width: int = 24) -> Path:
    """`count` noise images named a, b, c, ...; the last one is `val`, the others `train`."""
    empty_dataset(root)
    write_classes(root, THREE_CLASSES)
    names = [chr(ord("a") + index) for index in range(count)]
    for index, name in enumerate(names):
        write_image(root, name, noise(height, width, seed=index))
        write_mask(root, name, quarters(height, width))
    write_split(root, "train", names[:-1])
    write_split(root, "val", names[-1:])
    return root
