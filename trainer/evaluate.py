"""Measuring a network on a split."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.geometry import network_input, segment_logits
from models.manifest import InputSpec, Manifest, Metrics
from trainer.dataset import EvaluationSample, EvaluationSet, VocFolder
from trainer.errors import DatasetError
from trainer.loop import Precision
from trainer.losses import cross_entropy
from trainer.metrics import ConfusionMatrix


@dataclass(frozen=True)
class Evaluation:
    """Figures of one split: the matrix at the labels' own resolution, and the mean loss per image
    at the network's input size, comparable with the training loss."""

    matrix: ConfusionMatrix
    loss: float
    images: int

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """The figures of both sets of images together."""
        matrix = ConfusionMatrix(self.matrix.num_classes, ignore_index=self.matrix.ignore_index)
        matrix.counts += self.matrix.counts + other.matrix.counts
        images = self.images + other.images
        loss = self.loss * self.images + other.loss * other.images
        return Evaluation(matrix, loss / max(images, 1), images)

    def metrics(self, folder: VocFolder, split: str) -> Metrics:
        iou = self.matrix.per_class_iou().tolist()
        return Metrics(
            dataset=folder.root.name,
            split=split,
            images=self.images,
            pixel_accuracy=none_if_nan(self.matrix.pixel_accuracy()),
            mean_iou=none_if_nan(self.matrix.mean_iou()),
            per_class_iou={
                entry.name: none_if_nan(value)
                for entry, value in zip(folder.class_set.classes, iou, strict=True)
            },
            loss=none_if_nan(self.loss),
        )


OnImage = Callable[[str, Tensor, Tensor], None]  # id, labels (H, W), predicted labels (H, W)


def evaluate_network(
    network: nn.Module,
    folder: VocFolder,
    ids: list[str],
    spec: InputSpec,
    precision: Precision,
    *,
    batch_size: int = 8,
    workers: int = 0,
    on_image: OnImage = lambda *_: None,
) -> Evaluation:
    """Runs every image of `ids` once; `on_image` sees each answer."""
    class_set = folder.class_set
    matrix = ConfusionMatrix(len(class_set), ignore_index=class_set.ignore_index)
    loader = DataLoader(
        EvaluationSet(folder, ids, spec),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_keep_sizes,
    )
    loss = 0.0
    network.eval()
    with torch.inference_mode():
        for pixels, small_labels, labels, names in loader:
            with precision.autocast():
                logits = network(network_input(pixels, spec, precision.device))  # (N, K, h, w)
            for index, name in enumerate(names):
                target = small_labels[index].to(precision.device).long()
                loss += float(
                    cross_entropy(logits[index : index + 1], target[None], class_set.ignore_index)
                )
                height, width = labels[index].shape
                chosen = segment_logits(logits[index], height, width).labels.cpu()
                matrix.update(labels[index], chosen)
                on_image(name, labels[index], chosen)
    return Evaluation(matrix, loss / max(len(ids), 1), len(ids))  # a process's share may be empty


def require_same_classes(manifest: Manifest, folder: VocFolder, *, name: str) -> None:
    """Evaluating against labels that mean something else would give figures without meaning."""
    ours, theirs = manifest.class_set().names, folder.class_set.names
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        raise DatasetError(
            f"{name}: the checkpoint has {len(ours)} classes, the dataset {folder.root} "
            f"{len(theirs)} (for VOC, --border class gives 22 and --border ignore 21)"
        )
    different = [
        f"{i}: {a!r} is {b!r}" for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b
    ]
    raise DatasetError(
        f"{name}: the checkpoint's classes are not the dataset's ({'; '.join(different[:5])})"
    )


def class_ids(folder: VocFolder, names: str) -> list[int]:
    """Ids of comma-separated class names."""
    known = {entry.name: entry.id for entry in folder.class_set.classes}
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise DatasetError(f"--classes: {name!r} is not one of {', '.join(known)}")
    return [known[name] for name in chosen]


def _keep_sizes(
    samples: list[EvaluationSample],
) -> tuple[Tensor, Tensor, list[Tensor], list[str]]:
    pixels, small, labels, names = zip(*samples, strict=True)
    return torch.stack(pixels), torch.stack(small), list(labels), list(names)


def none_if_nan(value: float) -> float | None:
    return None if value != value else value
