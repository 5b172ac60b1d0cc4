"""`evaluate`: the figures of a checkpoint on a split."""

import json
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from models import Checkpoint, load_checkpoint
from models.atomic import write_bytes
from models.devices import choose_device
from trainer.console import plain_console
from trainer.data.dataset import VocFolder
from trainer.errors import ConfigError
from trainer.evaluation.evaluate import (
    Evaluation,
    class_ids,
    evaluate_network,
    require_same_classes,
)
from trainer.evaluation.scores import WorstImages
from trainer.evaluation.summary import class_figures, summarise
from trainer.evaluation.tta import TestTimeAugmentation
from trainer.pictures.figures import draw_class_bars, draw_comparison, draw_confusion, save_figure
from trainer.pictures.samples import file_name, save_comparison
from trainer.precision import Precision
from trainer.progress import Reporter
from trainer.wording import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """What is written beside the table on the terminal; checked before hours of work."""

    json: Path | None = None
    samples: Path | None = None
    pictures: Path | None = None
    worst: int = 8

    def __post_init__(self) -> None:
        if self.worst < 0:
            raise ConfigError(f"--worst {self.worst}: must be 0 or more")
        if self.json is not None and self.json.is_dir():
            raise ConfigError(f"--json {self.json}: is a folder, not a file")
        if self.json is not None and not self.json.parent.is_dir():
            raise ConfigError(f"--json {self.json}: the folder {self.json.parent} does not exist")
        for option, folder in (("--samples", self.samples), ("--pictures", self.pictures)):
            if folder is not None and folder.exists() and not folder.is_dir():
                raise ConfigError(f"{option} {folder}: is a file, not a folder")


@dataclass(frozen=True)
class Measurement:
    """One checkpoint on one split, which can be gone over with and without augmentation."""

    checkpoint: Checkpoint
    folder: VocFolder
    split: str
    ids: list[str]
    precision: Precision
    batch_size: int
    reporter: Reporter = field(repr=False)

    def run(
        self,
        *,
        tta: TestTimeAugmentation | None = None,
        worst: WorstImages | None = None,
        samples: Path | None = None,
    ) -> Evaluation:
        how = "" if tta is None else f" with {tta}"
        self.reporter.begin(f"evaluating {self.split}{how}", total=len(self.ids))

        def on_image(image_id: str, labels: Tensor, result: Tensor) -> None:
            self.reporter.advance(1)
            if samples is not None:
                image = self.folder.read_image(image_id)
                path = samples / f"{file_name(image_id)}.png"
                save_comparison(path, image, labels, result, self.folder.class_set)

        return evaluate_network(
            self.checkpoint.network,
            self.folder,
            self.ids,
            self.checkpoint.manifest.input,
            self.precision,
            batch_size=self.batch_size,
            on_image=on_image,
            boundary=True,
            tta=tta,
            worst=worst,
        )


def evaluate(
    checkpoint_path: Path,
    data: Path,
    split: str,
    *,
    border: str | None,
    classes: str | None,
    tta: bool,
    outputs: Outputs,
    batch_size: int,
    device: str,
    limit: int | None,
) -> None:
    checkpoint = load_checkpoint(checkpoint_path)
    manifest = checkpoint.manifest
    folder = VocFolder.open(data, border=border or border_of(manifest.arguments.num_classes, data))
    require_same_classes(manifest, folder, name=str(checkpoint_path))
    chosen = _chosen(folder, classes)
    ids = folder.split(split)[:limit]
    precision = Precision(choose_device(device))
    # in memory as the service has it: the arithmetic is then the same
    checkpoint.network.to(precision.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    augmentation = TestTimeAugmentation() if tta else None
    worst = WorstImages(outputs.worst if outputs.pictures is not None else 0)
    with Reporter(plain_console(stderr=True)) as reporter:
        measurement = Measurement(checkpoint, folder, split, ids, precision, batch_size, reporter)
        plain = measurement.run(worst=worst, samples=outputs.samples)
        augmented = measurement.run(tta=augmentation) if augmentation else None
    figures = summarise(plain, folder, split, classes=chosen)
    if augmented is not None:
        figures["with_tta"] = summarise(augmented, folder, split, classes=chosen, tta=augmentation)
    if outputs.json is not None:
        write_bytes(outputs.json, json.dumps(figures, indent=1).encode())
    if outputs.pictures is not None:
        _write_pictures(outputs.pictures, plain, worst, folder)
    _show_classes(plain, folder)
    _show_totals(counted(plain.images, "image"), plain, chosen)
    if augmented is not None:
        _show_totals(f"with {augmentation}", augmented, chosen)


def _chosen(folder: VocFolder, classes: str | None) -> list[int] | None:
    if classes is None:
        return None
    if not (chosen := class_ids(folder, classes)):
        raise ConfigError(f"--classes {classes!r}: names no class")
    return chosen


def border_of(num_classes: int, data: Path) -> str | None:
    """A checkpoint of 21 classes was trained with VOC's border ignored."""
    return "ignore" if num_classes == 21 and not (data / "classes.json").exists() else None


def _write_pictures(
    target: Path, evaluation: Evaluation, worst: WorstImages, folder: VocFolder
) -> None:
    class_set = folder.class_set
    save_figure(target / "confusion.png", draw_confusion(evaluation.matrix, class_set))
    rows = class_figures(evaluation, class_set)
    save_figure(target / "classes.png", draw_class_bars(rows))
    names = {file_name(score.id) for score in evaluation.scores}
    for old in (target / "worst").glob("[0-9][0-9]*-*.png"):
        if old.stem.partition("-")[2] in names:
            old.unlink()  # of another evaluation: it would pass for this one's
    for place, (score, predicted) in enumerate(worst.images, 1):
        image, labels = folder.read_pair(score.id)
        figure = draw_comparison(image, labels, predicted, class_set, score=score)
        save_figure(target / "worst" / f"{place:02d}-{file_name(score.id)}.png", figure)
    logger.info(
        "confusion.png, classes.png and the %d worst images are in %s", len(worst.images), target
    )


def _show_classes(evaluation: Evaluation, folder: VocFolder) -> None:
    table = Table("class", "IoU", "Dice", "boundary IoU", "precision", "recall", "labelled")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in class_figures(evaluation, folder.class_set):
        shares = (row.iou, row.dice, row.boundary_iou, row.precision, row.recall)
        table.add_row(row.name, *map(_four_digits, shares), f"{row.labelled_share:.2%}")
    table.add_section()
    matrix, boundary = evaluation.matrix, evaluation.boundary
    means = [matrix.mean_iou(), matrix.mean_dice()]
    means += [boundary.mean_iou()] if boundary is not None else []
    table.add_row("mean", *map(_four_digits, means))
    plain_console().print(table)


def _four_digits(value: float) -> str:
    return "absent" if math.isnan(value) else f"{value:.4f}"


def _show_totals(what: str, evaluation: Evaluation, chosen: list[int] | None) -> None:
    """One line, so that two evaluations can be compared at a glance."""
    matrix, boundary = evaluation.matrix, evaluation.boundary
    figures = [
        f"pixel accuracy {matrix.pixel_accuracy():.4f}",
        f"mean IoU {matrix.mean_iou():.4f}",
        f"mean Dice {matrix.mean_dice():.4f}",
    ]
    if boundary is not None:
        figures.append(f"mean boundary IoU {boundary.mean_iou():.4f}")
    figures.append(f"loss {evaluation.loss:.4f}")
    if chosen is not None:
        figures.append(f"mean IoU over the {len(chosen)} named {matrix.mean_iou(chosen):.4f}")
    console = plain_console(soft_wrap=True)
    console.print(f"{what}: {', '.join(figures)}")
