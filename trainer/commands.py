"""The commands behind the command line: what they do, and what they show on the terminal."""

import json
import logging
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from models import load_checkpoint
from models.atomic import write_bytes
from models.devices import choose_device
from trainer.audit import (
    MAX_LISTED_PROBLEMS,
    SplitAudit,
    audit_split,
    available_splits,
    overlap,
)
from trainer.config import FitConfig
from trainer.dataset import VocFolder
from trainer.evaluate import (
    Evaluation,
    class_ids,
    evaluate_network,
    none_if_nan,
    require_same_classes,
)
from trainer.interrupt import Interrupt
from trainer.loop import Precision
from trainer.predict import image_files, predict_folder
from trainer.progress import Reporter
from trainer.run import Run
from trainer.samples import save_comparison

logger = logging.getLogger(__name__)


def fit(config: FitConfig) -> None:
    """Trains; Ctrl-C saves the state and says how to go on."""
    with Reporter(Console(stderr=True)) as reporter, Interrupt() as interrupt:
        try:
            Run(config, reporter, interrupt).execute()
        except KeyboardInterrupt:
            logger.warning("stopped; the same command with --resume goes on from here")
            raise
    logger.info("checkpoints, curves.png, metrics.csv and samples are in %s", config.out)


def evaluate(
    checkpoint_path: Path,
    data: Path,
    split: str,
    *,
    border: str | None,
    classes: str | None,
    json_path: Path | None,
    samples: Path | None,
    batch_size: int,
    device: str,
    limit: int | None,
) -> None:
    checkpoint = load_checkpoint(checkpoint_path)
    manifest = checkpoint.manifest
    folder = VocFolder.open(data, border=border or _border_of(manifest.arguments.num_classes, data))
    require_same_classes(manifest, folder, name=str(checkpoint_path))
    chosen = class_ids(folder, classes) if classes else None
    ids = folder.split(split)[:limit]
    precision = Precision(choose_device(device))
    with Reporter(Console(stderr=True)) as reporter:
        reporter.begin(f"evaluating {split}", total=len(ids))

        def on_image(image_id: str, labels: Tensor, result: Tensor) -> None:
            reporter.advance(1)
            if samples is not None:
                image = folder.read_image(image_id)
                path = samples / f"{image_id}.png"
                save_comparison(path, image, labels, result, folder.class_set)

        evaluation = evaluate_network(
            checkpoint.network.to(precision.device),
            folder,
            ids,
            manifest.input,
            precision,
            batch_size=batch_size,
            on_image=on_image,
        )
    figures = evaluation.metrics(folder, split).model_dump()
    if chosen is not None:
        figures["mean_iou_of"] = {
            "classes": [folder.class_set.names[i] for i in chosen],
            "mean_iou": none_if_nan(evaluation.matrix.mean_iou(chosen)),
        }
    if json_path is not None:
        write_bytes(json_path, json.dumps(figures, indent=1).encode())
    _show_evaluation(evaluation, folder, chosen)


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


def predict(checkpoint_path: Path, images: Path, out: Path, *, device: str) -> int:
    """Returns the number of images that could not be read."""
    checkpoint = load_checkpoint(checkpoint_path)
    files = image_files(images)
    with Reporter(Console(stderr=True)) as reporter:
        reporter.begin("predicting", total=len(files))

        def on_image(path: Path, problem: str | None) -> None:
            reporter.advance(1)
            if problem is not None:
                logger.error("%s: %s", path, problem)

        failed = predict_folder(checkpoint, files, out, device=device, on_image=on_image)
    logger.info("%d masks in %s, %d images failed", len(files) - failed, out, failed)
    return failed


def _border_of(num_classes: int, data: Path) -> str | None:
    """A checkpoint of 21 classes was trained with VOC's border ignored."""
    return "ignore" if num_classes == 21 and not (data / "classes.json").exists() else None


def _show_evaluation(evaluation: Evaluation, folder: VocFolder, chosen: list[int] | None) -> None:
    console = Console(markup=False)
    matrix = evaluation.matrix
    table = Table("class", "IoU", "labelled pixels", "predicted pixels")
    iou = matrix.per_class_iou().tolist()
    labelled, predicted = matrix.counts.sum(1).tolist(), matrix.counts.sum(0).tolist()
    for entry in folder.class_set.classes:
        value = iou[entry.id]
        shown = "absent" if value != value else f"{value:.4f}"
        table.add_row(entry.name, shown, f"{labelled[entry.id]:,}", f"{predicted[entry.id]:,}")
    console.print(table)
    console.print(
        f"{evaluation.images} images: pixel accuracy {matrix.pixel_accuracy():.4f}, "
        f"mean IoU {matrix.mean_iou():.4f}, loss {evaluation.loss:.4f}"
    )
    if chosen is not None:
        console.print(f"mean IoU over the {len(chosen)} named: {matrix.mean_iou(chosen):.4f}")


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
