"""A folder of labelled images in the layout of Pascal VOC."""

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from models.classes import ClassSet, load_class_set, voc_classes
from models.errors import ModelError
from models.manifest import InputSpec
from models.pixels import open_image, rgb_pixels, upright_size
from trainer.data.augment import plain_pair
from trainer.data.mask import DecodedMask, decode_mask, read_mask, require_mask_file
from trainer.errors import DatasetError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
MAX_ID_BYTES = 240  # file systems take 255, an ending and a mark included


@dataclass(frozen=True)
class VocFolder:
    """`JPEGImages/<id>.*`, `SegmentationClass/<id>.png`, `ImageSets/Segmentation/<split>.txt`."""

    root: Path
    class_set: ClassSet
    border_id: int | None = None  # the class that stands for the ignore value, if one does

    @classmethod
    def open(cls, root: Path, *, border: str | None = None) -> "VocFolder":
        """Classes come from `classes.json`, else they are VOC's, the border class by default."""
        for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            if not (root / part).is_dir():
                raise DatasetError(f"{root / part}: no such folder; a dataset folder has one")
        custom = root / "classes.json"
        if custom.exists() or custom.is_symlink():  # one that leads nowhere is a mistake
            if border == "class":
                raise DatasetError(
                    f"{custom}: --border class is for VOC's own classes; name the border here"
                )
            return cls(root, load_class_set(custom))
        class_set = voc_classes(border=border or "class")
        return cls(root, class_set, None if border == "ignore" else len(class_set) - 1)

    def split(self, name: str) -> list[str]:
        """The image ids of a split, in the file's order."""
        path = self.root / "ImageSets" / "Segmentation" / f"{name}.txt"
        lines = _split_lines(path)
        ids = [self._image_id(line) for line in lines]
        if not ids:
            raise DatasetError(f"{path}: the split is empty")
        seen: set[str] = set()
        for image_id in ids:
            if image_id in seen:
                raise DatasetError(f"{path}: image {image_id!r} is listed twice")
            if Path(image_id).name != image_id:
                raise DatasetError(f"{path}: {image_id!r} is not a plain image id")
            seen.add(image_id)
        return ids

    def _image_id(self, line: str) -> str:
        """An id may hold spaces; VOC's lists of one class have a mark of -1, 0 or 1 behind it."""
        words = line.rsplit(maxsplit=1)
        marked = len(words) == 2 and words[1] in ("-1", "0", "1")
        return words[0] if marked and self._find_image(line) is None else line

    def _find_image(self, image_id: str) -> Path | None:
        folder = self.root / "JPEGImages"
        for suffix in (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES)):
            if (path := folder / f"{image_id}{suffix}").exists():
                return path
        others = sorted(folder.glob(f"{glob.escape(image_id)}.*"))
        return next((p for p in others if p.suffix.lower() in IMAGE_SUFFIXES), None)

    def image_path(self, image_id: str) -> Path:
        if (path := self._find_image(image_id)) is not None:
            if not path.is_file():  # reading a pipe would wait for ever
                raise DatasetError(f"{path}: is no file")
            return path
        whole = self.root / "JPEGImages" / image_id
        hint = "; a split lists ids without the file's ending" if whole.is_file() else ""
        raise DatasetError(f"{whole}.*: the image is missing{hint}")

    def mask_path(self, image_id: str) -> Path:
        return self.root / "SegmentationClass" / f"{image_id}.png"

    def image_size(self, image_id: str) -> tuple[int, int]:
        """(height, width), upright, from the file's header alone."""
        path = self.image_path(image_id)
        try:
            with open_image(path) as image:
                return upright_size(image)
        except ModelError as error:
            raise DatasetError(f"{path}: {error}") from error

    def read_image(self, image_id: str) -> Tensor:
        """uint8 (3, H, W), upright."""
        path = self.image_path(image_id)
        try:
            with open_image(path) as image:
                return rgb_pixels(image)
        except ModelError as error:
            raise DatasetError(f"{path}: {error}") from error

    def read_labels(self, image_id: str) -> Tensor:
        """uint8 (H, W) class ids; see `decode_mask`."""
        return read_mask(self.mask_path(image_id), self.class_set, border_id=self.border_id)

    def decode_mask(self, image_id: str) -> DecodedMask:
        return decode_mask(self.mask_path(image_id), self.class_set, border_id=self.border_id)

    def read_pair(self, image_id: str) -> tuple[Tensor, Tensor]:
        """Image and labels, which must be of one size."""
        image, labels = self.read_image(image_id), self.read_labels(image_id)
        self.require_same_size(image_id, image.shape[-2:], labels.shape)
        return image, labels

    def require_same_size(self, image_id: str, image: Sequence[int], mask: Sequence[int]) -> None:
        """Both (height, width)."""
        if tuple(image) != tuple(mask):
            raise DatasetError(
                f"{self.mask_path(image_id)}: the mask is {mask[1]}x{mask[0]}, "
                f"its image {image[1]}x{image[0]}"
            )

    def fingerprint(self, ids: list[str]) -> str:
        """sha256 over the ids, the classes and the bytes of every mask."""
        digest = hashlib.sha256(repr(self.class_set).encode())
        for image_id in ids:
            digest.update(image_id.encode())
            path = self.mask_path(image_id)
            require_mask_file(path)
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def _split_lines(path: Path) -> list[str]:
    if path.is_dir():
        raise DatasetError(f"{path}: is a folder, not a list of ids")
    if not path.is_file():
        others = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise DatasetError(f"{path}: no such split; there are: {others}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text ({error})") from error
    if "\0" in text:
        raise DatasetError(f"{path}: not UTF-8 text (it holds zeros, as UTF-16 does)")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if len(line.encode()) > MAX_ID_BYTES:
            raise DatasetError(f"{path}: {line[:40]!r}… is too long for the name of a file")
    return lines


EvaluationSample = tuple[Tensor, Tensor, Tensor, str]


class EvaluationSet(Dataset[EvaluationSample]):
    """Whole images: (input pixels uint8 (3, h, w), labels at input size, labels at their own
    size, id); in mode `tile` the input is the image at its own size."""

    def __init__(self, folder: VocFolder, ids: list[str], spec: InputSpec) -> None:
        self.folder = folder
        self.ids = ids
        self.spec = spec

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> EvaluationSample:
        image, labels = self.folder.read_pair(self.ids[index])
        if self.spec.mode == "tile":
            return image, labels, labels, self.ids[index]
        pixels, small = plain_pair(image, labels, self.spec.height, self.spec.width)
        return pixels, small, labels, self.ids[index]
