"""What only several splits or masks together show: sentences for `check` and `fit`."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from trainer.data.dataset import IMAGE_SUFFIXES, VocFolder
from trainer.data.duplicates import identical_files
from trainer.data.mask import Reading
from trainer.data.split_audit import ImageAudit, SplitAudit
from trainer.errors import DatasetError
from trainer.wording import counted

SplitIds = dict[str, list[str]]  # a split's name -> its image ids


def overlap(first: str, second: str, ids: SplitIds) -> str | None:
    """A sentence when two splits share images: figures on the second would be flattered."""
    common = sorted(set(ids[first]) & set(ids[second]))
    if not common:
        return None
    shared = counted(len(common), "image")
    return f"splits {first} and {second} share {shared}, {common[0]} among them"


def other_overlaps(ids: SplitIds, *, fitted: set[str]) -> list[str]:
    """One sentence about all pairs of splits but the one that `fit` uses."""
    pairs = [
        f"{first} and {second} ({len(common)})"
        for first, second in combinations(ids, 2)
        if (common := set(ids[first]) & set(ids[second])) and {first, second} != fitted
    ]
    if not pairs:
        return []
    return [f"splits that share images, not to be trained and measured on: {', '.join(pairs)}"]


def repeated_images(folder: VocFolder, first: str, second: str, ids: SplitIds) -> str | None:
    """A sentence when two splits hold the same file under different ids."""
    trained, measured = set(ids[first]), set(ids[second])
    groups = [
        (sorted(trained.intersection(group)), sorted(measured.intersection(group)))
        for group in identical_files(_image_paths(folder, trained | measured))
    ]
    both = [(known, seen) for known, seen in groups if known and seen]
    if not both:
        return None
    count = sum(len(seen) for _, seen in both)
    known, seen = (folder.image_path(ids[0]).name for ids in both[0])
    return (
        f"split {second} repeats {counted(count, 'image')} of split {first} under another name: "
        f"{folder.root / 'JPEGImages' / seen} holds the bytes of {known}"
    )


def repeats_within(folder: VocFolder, name: str, ids: SplitIds) -> list[str]:
    """A sentence when one split holds the same file twice."""
    groups = identical_files(_image_paths(folder, set(ids[name])))
    if not groups:
        return []
    spare = sum(len(group) - 1 for group in groups)
    example = " and ".join(groups[0][:2])
    repeats = f"{counted(spare, 'image')} of split {name} with the file of another"
    return [f"{repeats}, {example} among them"]


def _image_paths(folder: VocFolder, ids: Iterable[str]) -> dict[str, Path]:
    paths = {}
    for image_id in ids:
        try:
            paths[image_id] = folder.image_path(image_id)
        except DatasetError:
            continue  # reported by the audit of its split
    return paths


def palette_conflict(folder: VocFolder, images: Iterable[ImageAudit]) -> str | None:
    """A sentence when one palette index means one class in one mask and another in the next."""
    examples: dict[Reading, str] = {}
    for image in images:
        examples.setdefault(image.reading, image.image_id)
    if Reading.BY_COLOR not in examples or Reading.BY_INDEX not in examples:
        return None
    by_index = folder.mask_path(examples[Reading.BY_INDEX])
    return (
        f"{folder.mask_path(examples[Reading.BY_COLOR])}: its palette has the classes' colours in "
        f"another order, that of {by_index.name} does not tell classes by colour: the same index "
        "would mean two classes; give every mask the palette of the classes, or none"
    )


def unseen_classes(folder: VocFolder, train: SplitAudit, val: SplitAudit) -> list[str]:
    """A sentence when validation asks for classes that training never shows."""
    missing = (val.pixels > 0) & (train.pixels == 0)
    names = [c.name for c in folder.class_set.classes if missing[c.id]]
    if not names:
        return []
    return [f"split {val.name} has pixels of {', '.join(names)}, split {train.name} none"]


def stray_images(folder: VocFolder, ids: SplitIds) -> list[str]:
    """Sentences about files in JPEGImages that no split lists, or that share an id."""
    files = defaultdict(list)
    for path in sorted((folder.root / "JPEGImages").iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            files[path.stem].append(path.name)
    sentences = []
    listed = {image_id for members in ids.values() for image_id in members}
    if unlisted := sorted(files.keys() - listed):
        stray = counted(len(unlisted), "image")
        sentences.append(f"{stray} in no split, {unlisted[0]} among them")
    if double := [names for name, names in files.items() if len(names) > 1 and name in listed]:
        used = folder.image_path(double[0][0].rpartition(".")[0]).name
        sentences.append(
            f"{counted(len(double), 'id')} with several images, {', '.join(double[0])} among them; "
            f"{used} is used"
        )
    return sentences
