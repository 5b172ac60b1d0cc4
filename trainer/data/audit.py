"""Everything that would stop or spoil a training run, found before it starts."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.data.audit_cache import read_cache, state_of, write_cache
from trainer.data.dataset import VocFolder
from trainer.data.duplicates import Pairs, near_pairs
from trainer.data.findings import (
    SplitIds,
    other_overlaps,
    overlap,
    palette_conflict,
    repeated_images,
    repeats_within,
    stray_images,
    unseen_classes,
)
from trainer.data.split_audit import ImageAudit, SplitAudit, audit_images, audit_split, unread_split
from trainer.errors import DatasetError
from trainer.wording import counted

Images = dict[str, ImageAudit]


def reading_threads() -> int:
    return min(8, os.cpu_count() or 1)


def available_splits(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt"))


@dataclass(frozen=True)
class TrainingAudit:
    """What `fit` is about to train and validate on; `notes` do not stop it but are worth a line."""

    train: SplitAudit
    val: SplitAudit
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"train": self.train.to_dict(), "val": self.val.to_dict(), "notes": self.notes}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "TrainingAudit":
        train, val = (SplitAudit.from_dict(content[name]) for name in ("train", "val"))
        return cls(train, val, content["notes"])


def audit_for_training(
    folder: VocFolder,
    train_split: str,
    val_split: str,
    *,
    limit: int | None = None,
    on_image: Callable[[], None] = lambda: None,
    workers: int | None = None,
    cache: Path | None = None,
) -> TrainingAudit:
    """Decodes every mask and reads every image's header.

    Raises DatasetError with the first problem and how many more there are. `on_image` is called
    in this thread after each pair; what it raises ends the audit. With `cache`, the result is kept
    in that file and taken from it while splits, classes, masks and images stay the same.
    """
    whole = {name: folder.split(name) for name in (train_split, val_split)}
    if shared := overlap(train_split, val_split, whole):
        raise DatasetError(f"{folder.root}: {shared}")
    ids = {name: members[:limit] for name, members in whole.items()}
    if cache is None:
        return _audit_for_training(folder, ids, on_image, workers)
    if (state := _state_if_complete(folder, ids)) and (known := read_cache(cache, state)):
        return TrainingAudit.from_dict(known)
    audit = _audit_for_training(folder, ids, on_image, workers)
    write_cache(cache, state, audit.to_dict())
    return audit


def _state_if_complete(folder: VocFolder, ids: SplitIds) -> str:
    try:
        return state_of(folder, ids)
    except DatasetError:
        return ""  # a file is missing: the audit says so, with all else there is


def _audit_for_training(
    folder: VocFolder, ids: SplitIds, on_image: Callable[[], None], workers: int | None
) -> TrainingAudit:
    images = audit_images(
        folder,
        [image_id for members in ids.values() for image_id in members],
        decode=False,
        workers=workers or reading_threads(),
        on_image=on_image,
    )
    (train_split, train_ids), (val_split, val_ids) = ids.items()
    train = audit_split(folder, train_split, [images[i] for i in train_ids], trains=True)
    val = audit_split(folder, val_split, [images[i] for i in val_ids])
    problems = _problems(folder, [train, val], images)
    if repeats := repeated_images(folder, train_split, val_split, ids):
        problems.append(repeats)
    if problems:
        more = f" (and {counted(len(problems) - 1, 'more problem')})" if len(problems) > 1 else ""
        raise DatasetError(f"{problems[0]}{more}; `check --data {folder.root}` lists every one")
    notes = [*train.notes, *val.notes, *unseen_classes(folder, train, val)]
    return TrainingAudit(train, val, notes)


@dataclass(frozen=True)
class DatasetAudit:
    """What `check` found; pairs of near-duplicates are None where they were not looked for."""

    splits: list[SplitAudit]
    problems: list[str]
    notes: list[str]
    across: Pairs | None = None
    within: Pairs | None = None


def audit_dataset(
    folder: VocFolder,
    names: list[str],
    *,
    train_split: str = "train",
    val_split: str = "val",
    limit: int | None = None,
    max_distance: int = -1,
    on_total: Callable[[int], None] = lambda total: None,
    on_image: Callable[[], None] = lambda: None,
    workers: int | None = None,
) -> DatasetAudit:
    """Decodes every image and mask of the named splits once, however many splits list it.

    `train_split` and `val_split` are those that `fit` would use. Near-duplicates, looked for in
    them, have hashes that differ in at most `max_distance` bits; below 0 none are looked for.
    `on_total` is told how many images `on_image` will be called for.
    """
    whole, failures = _read_splits(folder, names)
    ids = {name: members[:limit] for name, members in whole.items()}
    listed = list(dict.fromkeys(i for members in ids.values() for i in members))
    on_total(len(listed))
    threads = workers or reading_threads()
    images = audit_images(folder, listed, decode=True, workers=threads, on_image=on_image)
    splits = [
        audit_split(folder, name, [images[i] for i in ids[name]], trains=name == train_split)
        if name in ids
        else unread_split(folder, name, failures[name])
        for name in names
    ]
    problems = _problems(folder, splits, images)
    if train_split in ids and val_split in ids:
        shared = overlap(train_split, val_split, whole)
        sentence = shared or repeated_images(folder, train_split, val_split, ids)
        problems += [sentence] if sentence else []
    notes = [note for split in splits for note in split.notes]
    notes += _notes(folder, {s.name: s for s in splits}, whole, train_split, val_split)
    across, within = _near_duplicates(images, ids, train_split, val_split, max_distance)
    return DatasetAudit(splits, problems, notes, across, within)


def _notes(
    folder: VocFolder,
    splits: dict[str, SplitAudit],
    ids: SplitIds,
    train_split: str,
    val_split: str,
) -> list[str]:
    """Sentences about several splits; `ids` are whole, without a limit."""
    notes = []
    if train_split in ids and val_split in ids:
        notes += unseen_classes(folder, splits[train_split], splits[val_split])
    if train_split in ids:
        notes += repeats_within(folder, train_split, ids)
    notes += other_overlaps(ids, fitted={train_split, val_split})
    if splits.keys() >= set(available_splits(folder.root)):
        notes += stray_images(folder, ids)
    return notes


def _read_splits(folder: VocFolder, names: list[str]) -> tuple[SplitIds, dict[str, str]]:
    """The ids of the splits that can be read, and what is wrong with the others."""
    ids, failures = {}, {}
    for name in names:
        try:
            ids[name] = folder.split(name)
        except DatasetError as error:
            failures[name] = str(error)
    return ids, failures


def _problems(folder: VocFolder, splits: list[SplitAudit], images: Images) -> list[str]:
    """Each once, though several splits may list the image."""
    conflict = palette_conflict(folder, images.values())
    problems = [problem for split in splits for problem in split.problems]
    return list(dict.fromkeys([*problems, *([conflict] if conflict else [])]))


def _near_duplicates(
    images: Images, ids: SplitIds, train_split: str, val_split: str, max_distance: int
) -> tuple[Pairs | None, Pairs | None]:
    if max_distance < 0:
        return None, None
    train, val = (
        {i: value for i in ids.get(name, []) if (value := images[i].hash) is not None}
        for name in (train_split, val_split)
    )
    return (
        near_pairs(train, val, max_distance=max_distance),
        near_pairs(train, max_distance=max_distance),
    )
