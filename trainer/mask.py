"""Reading a label mask: palette, index or RGB PNG to class ids."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.classes import VOC_BORDER_COLOR, ClassSet
from trainer.errors import DatasetError

UNKNOWN = -1  # wider than an id: all 256 of those can mean something
MAX_LISTED_VALUES = 5

Labels = NDArray[np.uint8]
Ids = NDArray[np.int16]  # labels, or UNKNOWN


def read_mask(path: Path, class_set: ClassSet, *, border_id: int | None = None) -> Tensor:
    """Class ids as uint8 (H, W); pixels not labelled hold `class_set.ignore_index`.

    `border_id` turns the ignore value into that class (the report's 22nd). Any value that is
    neither a class nor ignored raises DatasetError with the value and its pixel count.
    """
    try:
        with Image.open(path) as image:
            image.load()
            labels = _decode(image, class_set, path)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: the mask is missing") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as a mask ({error})") from error
    if border_id is not None:
        labels[labels == class_set.ignore_index] = border_id
    return torch.from_numpy(labels)


def _decode(image: Image.Image, class_set: ClassSet, path: Path) -> Labels:
    if image.mode == "P" and (by_color := _palette_to_ids(image, class_set)) is not None:
        return by_color
    if image.mode in ("P", "L", "1") or image.mode.startswith("I"):
        values = np.array(image, dtype=np.int64)
        _require_known_values(values, class_set, path)
        return values.astype(np.uint8)
    if image.mode in ("RGB", "RGBA"):
        return _colors_to_ids(np.asarray(image.convert("RGB")), class_set, path)
    raise DatasetError(f"{path}: a mask of mode {image.mode!r} is not supported")


def _require_known_values(values: NDArray[np.int64], class_set: ClassSet, path: Path) -> None:
    found, counts = np.unique(values, return_counts=True)
    known = (found >= 0) & (found < len(class_set)) | (found == class_set.ignore_index)
    _refuse_unknown(
        {
            str(value): int(count)
            for value, count in zip(found[~known], counts[~known], strict=True)
        },
        path,
        f"classes are 0..{len(class_set) - 1}, {class_set.ignore_index} is ignored",
    )


def _palette_to_ids(image: Image.Image, class_set: ClassSet) -> Labels | None:
    """Palette images whose used colours are all class colours are read by colour, so that a
    palette in another order is not taken for class ids. None: read the indices instead."""
    colors = np.array(image.getpalette("RGB"), dtype=np.int64).reshape(-1, 3)
    indices = np.array(image)
    used = np.unique(indices)
    if used.max(initial=0) >= len(colors):
        return None
    ids = _lookup(_packed(colors[used]), class_set)
    if (ids == UNKNOWN).any():
        return None
    table = np.zeros(256, dtype=np.uint8)
    table[used] = ids
    result: Labels = table[indices]
    return result


def _colors_to_ids(rgb: NDArray[np.uint8], class_set: ClassSet, path: Path) -> Labels:
    packed = _packed(rgb)
    labels = _lookup(packed, class_set)
    unknown, counts = np.unique(packed[labels == UNKNOWN], return_counts=True)
    _refuse_unknown(
        {
            f"colour ({value >> 16}, {value >> 8 & 255}, {value & 255})": int(count)
            for value, count in zip(unknown.tolist(), counts, strict=True)
        },
        path,
        "not a class colour",
    )
    return labels.astype(np.uint8)


def _lookup(packed: NDArray[np.int64], class_set: ClassSet) -> Ids:
    table = {(c.color[0] << 16) | (c.color[1] << 8) | c.color[2]: c.id for c in class_set.classes}
    red, green, blue = VOC_BORDER_COLOR
    table.setdefault((red << 16) | (green << 8) | blue, class_set.ignore_index)
    codes = np.array(sorted(table))
    ids = np.array([table[code] for code in sorted(table)], dtype=np.int16)
    position = np.searchsorted(codes, packed).clip(max=len(codes) - 1)
    return np.where(codes[position] == packed, ids[position], np.int16(UNKNOWN))


def _packed(rgb: NDArray[np.uint8] | NDArray[np.int64]) -> NDArray[np.int64]:
    wide = rgb.astype(np.int64)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _refuse_unknown(unknown: dict[str, int], path: Path, known: str) -> None:
    if not unknown:
        return
    most = sorted(unknown.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{value} ({count} pixels)" for value, count in most[:MAX_LISTED_VALUES])
    more = f" and {len(most) - MAX_LISTED_VALUES} more" if len(most) > MAX_LISTED_VALUES else ""
    raise DatasetError(f"{path}: unknown mask values {listed}{more}; {known}")
