"""`evaluate`: the figures of a checkpoint on a split."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from models import load_checkpoint
from models.atomic import write_bytes
from models.devices import choose_device
from trainer.dataset import VocFolder
from trainer.evaluate import (
    Evaluation,
    class_ids,
    evaluate_network,
    none_if_nan,
    require_same_classes,
)
from trainer.loop import Precision
from trainer.progress import Reporter
from trainer.samples import save_comparison


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
    folder = VocFolder.open(data, border=border or border_of(manifest.arguments.num_classes, data))
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


def border_of(num_classes: int, data: Path) -> str | None:
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
