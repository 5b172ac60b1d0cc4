"""What a precision costs: the mean IoU of the masks that come back over HTTP."""

import io

import numpy as np
import torch
from PIL import Image

from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.post import post_image
from benchmarks.serving.rounds import reason
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop
from trainer.data.dataset import VocFolder
from trainer.evaluation.metrics import ConfusionMatrix

PRECISIONS = ("float32", "bfloat16", "int8")


def measure(shop: Workshop) -> list[Table]:
    data, split = shop.options.data, shop.options.split
    table = Table(
        f"Mean IoU on {split}, masks from the service: {shop.carried.stem}",
        ("precision", "mean IoU", "points from float32", "pixel accuracy", "images"),
    )
    if data is None:
        table.add("not measured: --data is not given")
        return [table]
    folder = VocFolder.open(data, border="ignore")
    ids = folder.split(split)[: shop.plan.accuracy_images]
    base: float | None = None
    for precision in PRECISIONS:
        try:
            matrix = _matrix(shop, precision, folder, ids)
        except BenchmarkError as error:
            table.add(precision, reason(error), precision=precision)
            continue
        base = matrix.mean_iou() if base is None else base
        _add(table, precision, matrix, base, len(ids))
    return [table]


def _matrix(shop: Workshop, precision: str, folder: VocFolder, ids: list[str]) -> ConfusionMatrix:
    class_set = folder.class_set
    matrix = ConfusionMatrix(len(class_set), ignore_index=class_set.ignore_index)
    with shop.running(shop.service(precision), shop.carried) as server:
        for image_id in ids:
            png = post_image(server.port, folder.image_path(image_id).read_bytes())
            with Image.open(io.BytesIO(png)) as mask:
                labels = torch.from_numpy(np.array(mask))  # (H, W)
            matrix.update(folder.read_labels(image_id), labels)
    return matrix


def _add(table: Table, precision: str, matrix: ConfusionMatrix, base: float, images: int) -> None:
    mean_iou = matrix.mean_iou()
    points = 100 * (mean_iou - base)
    table.add(
        precision,
        number(mean_iou, 4),
        f"{points:+.2f}",
        number(matrix.pixel_accuracy(), 4),
        str(images),
        precision=precision,
        mean_iou=mean_iou,
        points=points,
        pixel_accuracy=matrix.pixel_accuracy(),
    )
