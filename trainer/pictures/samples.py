"""Pictures of what a network does: image | label | result, side by side in class colours."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from models.classes import ClassSet

GAP = 4  # white pixels between the panels
MAX_PANEL = 512  # longer sides are scaled down: these are for looking at


def file_name(image_id: str) -> str:
    """An id as part of a file's name, which must not hold ':'; different ids stay different."""
    return image_id.replace("%", "%25").replace(":", "%3A")


def indexed_image(labels: Tensor, class_set: ClassSet) -> Image.Image:
    """uint8 (H, W) class ids -> an indexed picture in the class colours."""
    image = Image.fromarray(labels.numpy())
    image.putpalette(class_set.palette())
    return image


def save_comparison(
    path: Path, image: Tensor, labels: Tensor, result: Tensor, class_set: ClassSet
) -> None:
    """`image` uint8 (3, H, W); `labels` and `result` uint8 (H, W)."""
    panels = [
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())),
        indexed_image(labels, class_set).convert("RGB"),
        indexed_image(result, class_set).convert("RGB"),
    ]
    height, width = labels.shape
    scale = min(1.0, MAX_PANEL / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet = Image.new("RGB", (3 * size[0] + 2 * GAP, size[1]), "white")
    for index, panel in enumerate(panels):
        method = Image.Resampling.BILINEAR if index == 0 else Image.Resampling.NEAREST
        sheet.paste(panel.resize(size, method), (index * (size[0] + GAP), 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
