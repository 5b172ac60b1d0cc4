"""An evaluation in figures: one row a class for tables and charts, a dictionary for JSON."""

from dataclasses import asdict, dataclass

import torch

from models.classes import ClassSet
from trainer.data.dataset import VocFolder
from trainer.evaluation.evaluate import Evaluation, none_if_nan
from trainer.evaluation.scores import ImageScore
from trainer.evaluation.tta import TestTimeAugmentation


@dataclass(frozen=True)
class ClassFigures:
    """One class over the split: shares in 0..1, NaN where there is nothing to divide by."""

    id: int
    name: str
    iou: float
    dice: float
    boundary_iou: float
    precision: float
    recall: float
    labelled_pixels: int
    predicted_pixels: int
    labelled_share: float  # of all labelled pixels

    @property
    def present(self) -> bool:
        return self.labelled_pixels + self.predicted_pixels > 0


def class_figures(evaluation: Evaluation, class_set: ClassSet) -> list[ClassFigures]:
    """One for every class of the set, in its order."""
    matrix, boundary = evaluation.matrix, evaluation.boundary
    absent = torch.full((len(class_set),), float("nan"), dtype=torch.float64)
    columns = (
        matrix.per_class_iou(),
        matrix.per_class_dice(),
        absent if boundary is None else boundary.per_class_iou(),
        matrix.per_class_precision(),
        matrix.per_class_recall(),
        matrix.labelled,
        matrix.predicted,
        matrix.labelled.double() / matrix.counts.sum(),
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        ClassFigures(entry.id, entry.name, *row)
        for entry, row in zip(class_set.classes, rows, strict=True)
    ]


def summarise(
    evaluation: Evaluation,
    folder: VocFolder,
    split: str,
    *,
    classes: list[int] | None = None,
    tta: TestTimeAugmentation | None = None,
) -> dict[str, object]:
    """Everything measured, ready for JSON: the manifest's figures, a row a class, the matrix
    (rows labelled, columns predicted), the images from worst to best, what `tta` was on."""
    figures: dict[str, object] = evaluation.metrics(folder, split).model_dump()
    figures["tta"] = None if tta is None else {"flip": tta.flip, "scales": list(tta.scales)}
    rows = class_figures(evaluation, folder.class_set)
    figures["per_class"] = [_without_nan(row) for row in rows]
    figures["confusion_matrix"] = evaluation.matrix.counts.tolist()
    scores = sorted(evaluation.scores, key=lambda score: score.rank)
    figures["per_image"] = [_without_nan(score) for score in scores]
    if classes is not None:
        figures["mean_iou_of"] = {
            "classes": [folder.class_set.names[i] for i in classes],
            "mean_iou": none_if_nan(evaluation.matrix.mean_iou(classes)),
        }
    return figures


def _without_nan(row: ClassFigures | ImageScore) -> dict[str, object]:
    """NaN is not JSON."""
    values = asdict(row).items()
    return {key: none_if_nan(v) if isinstance(v, float) else v for key, v in values}
