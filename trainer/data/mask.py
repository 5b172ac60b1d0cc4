"""Reading a label mask: palette, index or RGB PNG to class ids."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.classes import VOC_BORDER_COLOR, ClassSet
from trainer.errors import DatasetError
from trainer.wording import counted

UNKNOWN = -1  # wider than an id: all 256 of those can mean something
MAX_LISTED_VALUES = 5
PNG_HEADER_BYTES = 26  # signature, length and name of the first chunk, width, height, bits, colours
GREY = 0  # the colour type of a PNG without colours or transparency

Labels = NDArray[np.uint8]
Values = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int32]
Ids = NDArray[np.int16]  # labels, or UNKNOWN


class Reading(Enum):
    """How a mask's values were understood. Each palette is judged by itself; a dataset with masks
    of both latter kinds contradicts itself, because one index means two classes in it."""

    PLAIN = "plain"  # no palette, or one whose colours and indices say the same
    BY_COLOR = "palette colours"  # each used colour names a class, but not that of its index
    BY_INDEX = "palette indices"  # a used colour names no class, or more than one index


@dataclass(frozen=True)
class DecodedMask:
    """`labels` uint8 (H, W); pixels not labelled hold `class_set.ignore_index`."""

    labels: Labels
    reading: Reading


def read_mask(path: Path, class_set: ClassSet, *, border_id: int | None = None) -> Tensor:
    """The labels of `decode_mask` as a tensor, uint8 (H, W)."""
    return torch.from_numpy(decode_mask(path, class_set, border_id=border_id).labels)


def decode_mask(path: Path, class_set: ClassSet, *, border_id: int | None = None) -> DecodedMask:
    """Class ids and how they were found.

    `border_id` turns the ignore value into that class (the report's 22nd). Any value that is
    neither a class nor ignored raises DatasetError with the value and its pixel count.
    """
    require_mask_file(path)
    try:
        with path.open("rb") as stream:
            mask = _decode(stream, class_set, path)
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: cannot be read as a mask ({reason})") from error
    if border_id is not None:
        mask.labels[mask.labels == class_set.ignore_index] = border_id
    return mask


def require_mask_file(path: Path) -> None:
    """A DatasetError where there is none; reading a pipe would wait for ever."""
    if path.is_file():
        return
    if path.exists():
        raise DatasetError(
            f"{path}: is a {'folder' if path.is_dir() else 'pipe or device'}, not a mask"
        )
    if path.is_symlink():
        raise DatasetError(f"{path}: the mask is missing; the link leads nowhere")
    raise DatasetError(f"{path}: the mask is missing{_similar(path)}")


def _similar(path: Path) -> str:
    """A mask of the same name in another format is worth a hint, not a guess."""
    names = sorted(other.name for other in path.parent.glob(f"{_literal(path.stem)}.*"))
    return f"; {names[0]} is there, but masks are PNG files named {path.name}" if names else ""


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _decode(stream: BinaryIO, class_set: ClassSet, path: Path) -> DecodedMask:
    bits, colors = _depth_and_color_type(stream, path)
    with Image.open(stream) as image:
        image.load()
        if bits == 16 and colors != GREY:
            raise DatasetError(f"{path}: 16 bits a channel; a mask in colours has 8")
        if image.mode == "P":
            return _palette_to_ids(image, class_set, path)
        _refuse_transparency(image, path)
        if image.mode in ("RGB", "RGBA"):
            rgb = np.asarray(image.convert("RGB"))
            return DecodedMask(_colors_to_ids(rgb, class_set, path), Reading.PLAIN)
        return DecodedMask(
            _indices_to_ids(_indices(image, bits, path), class_set, path), Reading.PLAIN
        )


def _depth_and_color_type(stream: BinaryIO, path: Path) -> tuple[int, int]:
    """Bits a sample and the colour type as the file has them: Pillow's mode tells neither."""
    header = stream.read(PNG_HEADER_BYTES)
    stream.seek(0)
    if len(header) == PNG_HEADER_BYTES and header.startswith(b"\x89PNG\r\n\x1a\n"):
        return header[24], header[25]
    with Image.open(stream) as image:
        # a JPEG's 1 may have been a 0: nothing in it can be taken for a label
        raise DatasetError(f"{path}: a {image.format} file under a PNG's name; masks are PNG")


def _refuse_transparency(image: Image.Image, path: Path) -> None:
    """What lies under a pixel that does not show was hardly meant as a label."""
    if image.mode not in ("LA", "RGBA"):
        return
    if clear := int((np.asarray(image.getchannel("A")) < 255).sum()):
        raise DatasetError(
            f"{path}: transparent in {counted(clear, 'pixel')}; a mask labels or ignores each"
        )


def _indices(image: Image.Image, bits: int, path: Path) -> Values:
    """The samples of a grey image as they are stored."""
    if image.mode == "LA":
        image = image.getchannel("L")
    if image.mode == "1":
        return np.array(image, dtype=np.uint8)
    if image.mode == "L":
        # Pillow stretches samples of 2 and 4 bits over 0..255: class 3 would come out as 255
        step = 255 // ((1 << bits) - 1)
        return np.array(image) // np.uint8(step)
    if image.mode.startswith("I"):
        return np.array(image)
    raise DatasetError(f"{path}: a mask of mode {image.mode!r} is not supported")


def _indices_to_ids(values: Values, class_set: ClassSet, path: Path) -> Labels:
    found, counts = _histogram(values)
    known = (found >= 0) & (found < len(class_set)) | (found == class_set.ignore_index)
    _refuse_unknown(
        {
            str(value): int(count)
            for value, count in zip(found[~known], counts[~known], strict=True)
        },
        path,
        f"classes are 0..{len(class_set) - 1}, {class_set.ignore_index} is ignored",
    )
    return values.astype(np.uint8)


def _histogram(values: Values) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values there are, and how often each."""
    if values.dtype == np.int32:
        found, counts = np.unique(values, return_counts=True)
        return found.astype(np.int64), counts
    frequencies = np.bincount(values.ravel())  # ten times as fast as sorting
    found = frequencies.nonzero()[0]
    return found, frequencies[found]


def _palette_to_ids(image: Image.Image, class_set: ClassSet, path: Path) -> DecodedMask:
    """Palette images whose used colours each name one class are read by colour, so that a palette
    in another order is not taken for class ids; others by index."""
    colors = np.array(image.getpalette("RGB"), dtype=np.int64).reshape(-1, 3)
    meanings = np.full(256, UNKNOWN, dtype=np.int16)
    meanings[: len(colors)] = _lookup(_packed(colors), class_set)
    indices: Labels = np.array(image)
    used = np.bincount(indices.ravel()).nonzero()[0]
    if not _names_classes(meanings, used, class_set):
        return DecodedMask(_indices_to_ids(indices, class_set, path), Reading.BY_INDEX)
    same = np.array_equal(meanings[used], used)
    labels = meanings.astype(np.uint8)[indices]
    return DecodedMask(labels, Reading.PLAIN if same else Reading.BY_COLOR)


def _names_classes(meanings: Ids, used: NDArray[np.intp], class_set: ClassSet) -> bool:
    """Whether the colours of the `used` indices can be trusted; `meanings` (256,) is the id that
    the colour of each index stands for.

    Palettes are padded, mostly with black, which may be a class's colour: what has the padding's
    colour is not that class. So no two indices may share a colour, neither among those used nor
    with the class's own index, and the ignored value may have no colour but the border's.
    """
    ids = meanings[used]
    if (ids == UNKNOWN).any() or len(np.unique(ids)) < len(ids):
        return False
    if ((ids != used) & (meanings[ids] == ids)).any():
        return False
    ignored = class_set.ignore_index
    if ignored not in used or meanings[ignored] == ignored:
        return True
    return class_set.classes[int(meanings[ignored])].color == VOC_BORDER_COLOR


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
    more = ""
    if len(most) > MAX_LISTED_VALUES:
        more = f" and {len(most) - MAX_LISTED_VALUES} more"
        known += "; were its edges smoothed or its size changed? labels know no in-between"
    raise DatasetError(f"{path}: unknown mask values {listed}{more}; {known}")
