"""A small synthetic dataset in Pascal VOC's layout, drawn afresh for each test that asks."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

BORDER = 255

# class id -> the colour its shapes have in the photographs: easy to tell apart, easy to learn
SHAPE_COLORS = {1: (205, 45, 40), 8: (45, 185, 60), 15: (55, 75, 215)}


def voc_palette() -> list[int]:
    """Pascal VOC's 256 colours, 768 values."""
    palette = []
    for index in range(256):
        bits = [
            [(index >> (3 * place + channel)) & 1 for place in range(3)] for channel in range(3)
        ]
        palette += [sum(bit << (7 - place) for place, bit in enumerate(column)) for column in bits]
    return palette


def make_voc_folder(root: Path, *, count: int, seed: int) -> Path:
    """`count` images of varying size, one shape each: class by colour, border 255 around it.

    A quarter (at least one image) is the `val` split, the rest `train`; the same seed draws the
    same bytes.
    """
    random = np.random.default_rng(seed)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"2007_{index:06d}" for index in range(count)]
    for index, name in enumerate(names):
        class_id = tuple(SHAPE_COLORS)[index % len(SHAPE_COLORS)]
        photograph, mask = _draw(random, class_id)
        photograph.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        mask.save(root / "SegmentationClass" / f"{name}.png")
    held_out = max(1, count // 4)
    for split, members in (("train", names[:-held_out]), ("val", names[-held_out:])):
        listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        listing.write_text("".join(f"{name}\n" for name in members))
    return root


def _draw(random: np.random.Generator, class_id: int) -> tuple[Image.Image, Image.Image]:
    """A noisy grey photograph with one shape, and its palette mask."""
    width, height = int(random.integers(64, 98)), int(random.integers(48, 81))
    grey = random.normal(150, 12, (height, width, 1)) + random.normal(0, 4, (height, width, 3))
    photograph = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    mask = Image.new("P", (width, height), 0)
    mask.putpalette(voc_palette())
    left, top = int(random.integers(5, width // 3)), int(random.integers(5, height // 3))
    right, bottom = width - int(random.integers(6, width // 3)), height - 6
    box, around = (left, top, right, bottom), (left - 2, top - 2, right + 2, bottom + 2)
    on_photograph, on_mask = ImageDraw.Draw(photograph), ImageDraw.Draw(mask)
    if random.random() < 0.5:
        on_photograph.ellipse(box, fill=SHAPE_COLORS[class_id])
        on_mask.ellipse(around, fill=BORDER)
        on_mask.ellipse(box, fill=class_id)
    else:
        on_photograph.rectangle(box, fill=SHAPE_COLORS[class_id])
        on_mask.rectangle(around, fill=BORDER)
        on_mask.rectangle(box, fill=class_id)
    return photograph, mask
