"""What the images and masks of one split hold, and what is wrong with them."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.dataset import VocFolder
from trainer.data.duplicates import perceptual_hash
from trainer.data.mask import Reading
from trainer.errors import DatasetError
from trainer.wording import counted

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ImageAudit:
    """One image and its mask. `counts` (256,) pixels of each label; `size` is (width, height).

    `hash` is the perceptual one, None where the pixels were not decoded.
    """

    image_id: str
    size: tuple[int, int] = (0, 0)
    counts: Counts = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    reading: Reading = Reading.PLAIN
    hash: int | None = None
    problem: str | None = None


def audit_image(folder: VocFolder, image_id: str, *, decode: bool) -> ImageAudit:
    """Reads the mask whole, of the image the header alone unless `decode`."""
    try:
        pixels = folder.read_image(image_id) if decode else None
        height, width = folder.image_size(image_id) if pixels is None else pixels.shape[-2:]
        mask = folder.decode_mask(image_id)
        folder.require_same_size(image_id, (height, width), mask.labels.shape)
    except DatasetError as error:
        return ImageAudit(image_id, problem=str(error))
    return ImageAudit(
        image_id,
        (width, height),
        np.bincount(mask.labels.ravel(), minlength=256),
        mask.reading,
        None if pixels is None else perceptual_hash(pixels),
    )


def audit_images(
    folder: VocFolder,
    ids: Iterable[str],
    *,
    decode: bool,
    workers: int,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, ImageAudit]:
    """Audits each id once, in threads, for decoders let go of the interpreter.

    `on_image` is called here, in the caller's thread; what it raises ends the audit.
    """
    audits = {}
    pool = ThreadPoolExecutor(workers)
    try:
        unique = dict.fromkeys(ids)
        for audit in pool.map(lambda name: audit_image(folder, name, decode=decode), unique):
            audits[audit.image_id] = audit
            on_image()
    finally:
        pool.shutdown(cancel_futures=True)
    return audits


@dataclass
class SplitAudit:
    """What one split holds. Arrays are (K,): labelled pixels of each class, the images that hold
    it, and the labelled pixels of those images."""

    name: str
    images: int
    pixels: Counts
    images_with_class: Counts
    pixels_with_class: Counts
    ignored_pixels: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (width, height)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def shares(self) -> NDArray[np.float64]:
        """(K,) each class's share of the labelled pixels."""
        total = max(int(self.pixels.sum()), 1)
        return self.pixels / total

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {
            "name": self.name,
            "images": self.images,
            "pixels": self.pixels.tolist(),
            "images_with_class": self.images_with_class.tolist(),
            "pixels_with_class": self.pixels_with_class.tolist(),
            "ignored_pixels": self.ignored_pixels,
            "sizes": [[*size, count] for size, count in sorted(self.sizes.items())],
            "problems": self.problems,
            "notes": self.notes,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "SplitAudit":
        arrays = ("pixels", "images_with_class", "pixels_with_class")
        sizes = Counter({(width, height): count for width, height, count in content["sizes"]})
        counts = {name: np.array(content[name], dtype=np.int64) for name in arrays}
        return cls(**{**content, **counts, "sizes": sizes})


def unread_split(folder: VocFolder, name: str, problem: str) -> SplitAudit:
    zeros = np.zeros(len(folder.class_set), dtype=np.int64)
    return SplitAudit(name, 0, zeros, zeros.copy(), zeros.copy(), problems=[problem])


def audit_split(
    folder: VocFolder, name: str, images: list[ImageAudit], *, trains: bool = False
) -> SplitAudit:
    """Sums up a split; one that `trains` must hold two classes at least."""
    good = [image for image in images if image.problem is None]
    count = len(folder.class_set)
    counts = np.zeros((len(good), 256), dtype=np.int64)
    for row, image in zip(counts, good, strict=True):
        row[:] = image.counts
    labelled = counts[:, :count]  # (images, K)
    held = labelled > 0
    audit = SplitAudit(
        name,
        len(images),
        labelled.sum(0),
        held.sum(0),
        (held * labelled.sum(1, keepdims=True)).sum(0),
        int(counts[:, folder.class_set.ignore_index].sum()),
        Counter(image.size for image in good),
        [image.problem for image in images if image.problem is not None],
    )
    if not audit.problems:
        _require_classes(audit, folder, trains=trains)
        _note_binary_masks(audit, folder, good)
    return audit


def _require_classes(audit: SplitAudit, folder: VocFolder, *, trains: bool) -> None:
    """VOC's border is no class to learn by itself: it only surrounds others."""
    entries = [c for c in folder.class_set.classes if audit.pixels[c.id] and c.id != border(folder)]
    rest = audit.ignored_pixels + (0 if folder.border_id is None else audit.pixels[border(folder)])
    if not entries and not rest:
        return  # every image failed, each with its own problem
    if not entries:
        audit.problems.append(f"split {audit.name}: no pixel is labelled, every one is ignored")
    elif len(entries) == 1:
        only = entries[0]
        sentence = f"split {audit.name}: every labelled pixel is of class {only.id} ({only.name})"
        if rest and only.id == 0:
            ignored = 255 if folder.border_id is not None else folder.class_set.ignore_index
            sentence += f"; the others are {ignored}, which is not a class"
            sentence += _BINARY if ignored == 255 else ""
        (audit.problems if trains else audit.notes).append(sentence)


_BINARY = ": a mask of two classes holds 0 and 1, not 0 and 255"


def border(folder: VocFolder) -> int:
    """The id of the class that stands for VOC's border, -1 where none does."""
    return -1 if folder.border_id is None else folder.border_id


def _note_binary_masks(audit: SplitAudit, folder: VocFolder, images: list[ImageAudit]) -> None:
    """0 and 255 alone are a photograph of background with parts unlabelled, or a mistake."""
    ignored = folder.class_set.ignore_index if folder.border_id is None else folder.border_id
    binary = [i.image_id for i in images if set(i.counts.nonzero()[0].tolist()) == {0, ignored}]
    if binary and folder.class_set.ignore_index == 255:
        audit.notes.append(
            f"split {audit.name}: {counted(len(binary), 'mask')} of 0 and 255 alone, {binary[0]} "
            "among them; 255 is not a class"
        )
