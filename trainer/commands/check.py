"""`check`: the audit of a dataset folder."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainer.audit import (
    MAX_LISTED_PROBLEMS,
    SplitAudit,
    audit_split,
    available_splits,
    overlap,
)
from trainer.dataset import VocFolder
from trainer.progress import Reporter


def check(data: Path, splits: list[str] | None, *, border: str | None, limit: int | None) -> bool:
    """Shows the audit and returns whether `fit` could train on the folder."""
    console = Console(markup=False)
    folder = VocFolder.open(data, border=border)
    # fit reads train and val: that one is absent must be said, not passed over
    names = splits or sorted({"train", "val", *available_splits(data)})
    problems: list[str] = []
    with Reporter(Console(stderr=True)) as reporter:
        reporter.begin("reading", total=len(names))
        audits = []
        for name in names:
            audits.append(audit_split(folder, name, limit=limit))
            reporter.advance(1)
    for audit in audits:
        if audit.images:
            _show_audit(console, audit, folder)
        problems += audit.problems
    if "train" in names and "val" in names and (shared := overlap(folder, "train", "val")):
        problems.append(shared)
    for problem in problems[:MAX_LISTED_PROBLEMS]:
        console.print(f"problem: {problem}", style="red", markup=False, soft_wrap=True)
    if len(problems) > MAX_LISTED_PROBLEMS:
        console.print(f"and {len(problems) - MAX_LISTED_PROBLEMS} more problems", style="red")
    verdict = f"{len(problems)} problems" if problems else "ready to train"
    console.print(verdict, style="red" if problems else "green")
    return not problems


def _show_audit(console: Console, audit: SplitAudit, folder: VocFolder) -> None:
    widths, heights = zip(*audit.sizes, strict=True) if audit.sizes else ((0,), (0,))
    console.print(
        f"split {audit.name}: {audit.images} images, {len(audit.sizes)} sizes, "
        f"{min(widths)}x{min(heights)} to {max(widths)}x{max(heights)}, "
        f"{audit.ignored_pixels:,} pixels ignored",
        highlight=False,
    )
    table = Table("class", "images", "pixels", "share")
    for entry in folder.class_set.classes:
        table.add_row(
            entry.name,
            str(audit.images_with_class[entry.id]),
            f"{audit.pixels[entry.id]:,}",
            f"{audit.shares[entry.id]:.2%}",
        )
    console.print(table)
    absent = [c.name for c in folder.class_set.classes if not audit.images_with_class[c.id]]
    if absent:
        console.print(f"note: split {audit.name} has no pixel of {', '.join(absent)}")
