"""A labelled folder to measure on where none is given: as large as photographs are."""

from pathlib import Path

import numpy as np
from PIL import Image

from models.classes import voc_classes

HEIGHT, WIDTH = 375, 500


def make_photographs(root: Path, count: int) -> Path:
    """Smooth random pictures with a rectangle of one class each, as JPEG and palette PNG."""
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    palette = voc_classes().palette()
    names = [f"{index:04d}" for index in range(count)]
    for index, name in enumerate(names):
        coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        picture.save(root / "JPEGImages" / f"{name}.jpg", quality=90)
        labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        top, left = random.integers(0, 150, 2)
        labels[top : top + 200, left : left + 200] = 1 + index % 20
        mask = Image.fromarray(labels)
        mask.putpalette(palette)
        mask.save(root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(names) + "\n")
    return root
