"""`check`: the audit of a dataset folder."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from models.atomic import write_atomically, write_bytes
from trainer.console import plain_console
from trainer.data.audit import DatasetAudit, audit_dataset, available_splits
from trainer.data.audit_record import audit_record
from trainer.data.dataset import VocFolder
from trainer.data.duplicates import Pairs
from trainer.data.split_audit import SplitAudit
from trainer.errors import ConfigError
from trainer.pictures.audit_figures import draw_class_shares, draw_image_sizes
from trainer.pictures.contact_sheet import draw_pairs, draw_samples
from trainer.pictures.figures import save_figure
from trainer.progress import Reporter
from trainer.wording import counted

logger = logging.getLogger(__name__)

MAX_LISTED_PROBLEMS = 50
MAX_LISTED_PAIRS = 5
MAX_DRAWN_PAIRS = 12


@dataclass(frozen=True)
class CheckOptions:
    """`pictures` and `json` are where to write; `samples` images are drawn of each split."""

    data: Path
    splits: list[str]
    train_split: str = "train"
    val_split: str = "val"
    border: str | None = None
    limit: int | None = None
    near_duplicates: int = 4
    pictures: Path | None = None
    samples: int = 24
    json: Path | None = None

    def __post_init__(self) -> None:
        if self.json is not None and self.json.is_dir():
            raise ConfigError(f"--json {self.json}: is a folder, not a file")
        if self.pictures is not None and self.pictures.is_file():
            raise ConfigError(f"--pictures {self.pictures}: is a file, not a folder")


def check(options: CheckOptions) -> bool:
    """Shows the audit and returns whether `fit` could train on the folder."""
    console = plain_console(soft_wrap=True)
    folder = VocFolder.open(options.data, border=options.border)
    audit = _audit(folder, options)
    for split in audit.splits:
        if split.images:
            _show_split(console, split, folder)
    _show_near(console, "across the splits", audit.across, options.near_duplicates)
    _show_near(console, f"inside {options.train_split}", audit.within, options.near_duplicates)
    for note in audit.notes:
        console.print(f"note: {note}")
    _show_problems(console, audit.problems)
    if options.json is not None:
        record = audit_record(audit, folder, max_distance=options.near_duplicates)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(options.json, json.dumps(record, indent=1).encode())
    if options.pictures is not None:
        _draw(folder, audit, options.pictures, options)
    return not audit.problems


def _audit(folder: VocFolder, options: CheckOptions) -> DatasetAudit:
    # fit reads these two: that one is absent must be said, not passed over
    fitted = {options.train_split, options.val_split}
    with Reporter(plain_console(stderr=True)) as reporter:
        return audit_dataset(
            folder,
            options.splits or sorted(fitted | set(available_splits(options.data))),
            train_split=options.train_split,
            val_split=options.val_split,
            limit=options.limit,
            max_distance=options.near_duplicates,
            on_total=lambda total: reporter.begin("reading", total=total),
            on_image=lambda: reporter.advance(1),
        )


def _show_split(console: Console, audit: SplitAudit, folder: VocFolder) -> None:
    widths, heights = zip(*audit.sizes, strict=True) if audit.sizes else ((0,), (0,))
    console.print(
        f"split {audit.name}: {counted(audit.images, 'image')}, "
        f"{counted(len(audit.sizes), 'size')}, "
        f"{min(widths)}x{min(heights)} to {max(widths)}x{max(heights)}, "
        f"{counted(audit.ignored_pixels, 'pixel')} ignored"
    )
    table = Table("class", "images", "pixels", "share")
    for entry in folder.class_set.classes:
        table.add_row(
            entry.name,
            str(audit.images_with_class[entry.id]),
            f"{audit.pixels[entry.id]:,}",
            f"{audit.shares[entry.id]:.2%}",
        )
    console.print(table, soft_wrap=False)
    absent = [c.name for c in folder.class_set.classes if not audit.images_with_class[c.id]]
    if absent:
        console.print(f"note: split {audit.name} has no pixel of {', '.join(absent)}")


def _show_near(console: Console, where: str, pairs: Pairs | None, max_distance: int) -> None:
    if pairs is None or not pairs.count:
        return
    console.print(
        f"note: {counted(pairs.count, 'pair')} of near-duplicates {where} "
        f"(perceptual hashes at most {max_distance} of 64 bits apart)"
    )
    for pair in pairs.closest[:MAX_LISTED_PAIRS]:
        console.print(f"  {pair.first} and {pair.second}, distance {pair.distance}")
    if pairs.count > MAX_LISTED_PAIRS:
        console.print(f"  and {pairs.count - MAX_LISTED_PAIRS:,} more")


def _show_problems(console: Console, problems: list[str]) -> None:
    for problem in problems[:MAX_LISTED_PROBLEMS]:
        console.print(f"problem: {problem}", style="red")
    if len(problems) > MAX_LISTED_PROBLEMS:
        left = len(problems) - MAX_LISTED_PROBLEMS
        console.print(f"and {counted(left, 'more problem')}", style="red")
    verdict = counted(len(problems), "problem") if problems else "ready to train"
    console.print(verdict, style="red" if problems else "green")


def _draw(folder: VocFolder, audit: DatasetAudit, target: Path, options: CheckOptions) -> None:
    target.mkdir(parents=True, exist_ok=True)
    shares = draw_class_shares(audit.splits, folder.class_set)
    save_figure(target / "class-shares.png", shares)
    save_figure(target / "image-sizes.png", draw_image_sizes(audit.splits))
    for split in audit.splits:
        if split.images:
            ids = folder.split(split.name)[: options.limit]
            _save(draw_samples(folder, ids, count=options.samples), target, f"samples-{split.name}")
    for name, pairs in (("across", audit.across), ("within", audit.within)):
        if pairs is not None:
            sheet = draw_pairs(folder, pairs.closest, count=MAX_DRAWN_PAIRS)
            _save(sheet, target, f"near-duplicates-{name}")
    logger.info("pictures are in %s", target)


def _save(sheet: Image.Image | None, target: Path, name: str) -> None:
    if sheet is not None:
        path = target / f"{name.replace(':', '-')}.png"
        write_atomically(path, lambda stream: sheet.save(stream, format="PNG"))
