"""Measuring a network on a split."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from models.classes import ClassSet, generic_classes
from models.geometry import network_input
from models.grid import Tile
from models.manifest import InputSpec, Manifest, Metrics
from models.network import Forward, SegmentationNetwork
from models.segmentation import forward_for
from models.tiling import segment_tiled
from models.upsample import Segmentation, segment_logits
from trainer.data.dataset import EvaluationSample, EvaluationSet, VocFolder
from trainer.data.loader import leave_signals_to_the_run
from trainer.errors import DatasetError
from trainer.evaluation.boundary import BoundaryCounts
from trainer.evaluation.metrics import ConfusionMatrix
from trainer.evaluation.scores import ImageScore, WorstImages
from trainer.evaluation.tta import TestTimeAugmentation
from trainer.losses import cross_entropy
from trainer.precision import Precision
from trainer.reading import read_batches


@dataclass
class Evaluation:
    """Figures of a split, or of a part of one: sums only, so that parts add up to the whole.

    The matrix, the boundaries (None unless asked for) and the scores are at the labels' own
    resolution; the loss is at the network's input size, comparable with the training loss.
    """

    matrix: ConfusionMatrix
    loss_sum: float = 0.0
    images: int = 0
    images_with_loss: int = 0  # those with a labelled pixel
    boundary: BoundaryCounts | None = None
    scores: list[ImageScore] = field(default_factory=list)

    @classmethod
    def empty(cls, class_set: ClassSet, *, boundary: bool = False) -> "Evaluation":
        count, ignored = len(class_set), class_set.ignore_index
        return cls(
            ConfusionMatrix(count, ignore_index=ignored),
            boundary=BoundaryCounts(count, ignore_index=ignored) if boundary else None,
        )

    @property
    def loss(self) -> float:
        """Mean over the images that have a labelled pixel; NaN without one."""
        return self.loss_sum / self.images_with_loss if self.images_with_loss else float("nan")

    def update(
        self, image_id: str, labels: Tensor, predicted: Tensor, loss: float | None
    ) -> ImageScore:
        """Adds one image, both uint8 (H, W) on the CPU; its loss is None without a label."""
        alone = ConfusionMatrix(self.matrix.num_classes, ignore_index=self.matrix.ignore_index)
        alone.update(labels, predicted)
        self.matrix.merge(alone)
        if self.boundary is not None:
            self.boundary.update(labels, predicted)
        if loss is not None:
            self.loss_sum += loss
            self.images_with_loss += 1
        self.images += 1
        self.scores.append(ImageScore.of(image_id, alone))
        return self.scores[-1]

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """Both parts together; ValueError when one of them alone has boundaries."""
        if (self.boundary is None) != (other.boundary is None):
            raise ValueError("one part of the evaluation has boundary counts, the other has none")
        bands = self.boundary + other.boundary if self.boundary and other.boundary else None
        return Evaluation(
            matrix=self.matrix + other.matrix,
            loss_sum=self.loss_sum + other.loss_sum,
            images=self.images + other.images,
            images_with_loss=self.images_with_loss + other.images_with_loss,
            boundary=bands,
            scores=self.scores + other.scores,
        )

    def metrics(self, folder: VocFolder, split: str) -> Metrics:
        iou = self.matrix.per_class_iou().tolist()
        return Metrics(
            dataset=folder.root.name,
            split=split,
            images=self.images,
            pixel_accuracy=none_if_nan(self.matrix.pixel_accuracy()),
            mean_iou=none_if_nan(self.matrix.mean_iou()),
            mean_dice=none_if_nan(self.matrix.mean_dice()),
            mean_boundary_iou=none_if_nan(self.boundary.mean_iou()) if self.boundary else None,
            per_class_iou={
                entry.name: none_if_nan(value)
                for entry, value in zip(folder.class_set.classes, iou, strict=True)
            },
            loss=none_if_nan(self.loss),
        )


OnImage = Callable[[str, Tensor, Tensor], None]  # id, labels (H, W), predicted labels (H, W)


def evaluate_network(
    network: SegmentationNetwork,
    folder: VocFolder,
    ids: list[str],
    spec: InputSpec,
    precision: Precision,
    *,
    batch_size: int = 8,
    workers: int = 0,
    on_image: OnImage = lambda *_: None,
    boundary: bool = False,
    tta: TestTimeAugmentation | None = None,
    worst: WorstImages | None = None,
) -> Evaluation:
    """Runs every image of `ids` once; `on_image` sees each answer, and so does `worst`.

    `boundary` costs a few milliseconds an image, `tta` several forward passes. No ids make an
    empty evaluation, to which others can be added.
    """
    evaluation = Evaluation.empty(folder.class_set, boundary=boundary)
    loader = DataLoader(
        EvaluationSet(folder, ids, spec),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=list,  # sizes differ
        worker_init_fn=leave_signals_to_the_run,
    )
    network.eval()
    forward = forward_for(network)
    if tta is not None:
        forward = tta.around(forward)
    ignored = folder.class_set.ignore_index
    with torch.inference_mode():
        for samples in read_batches(loader):
            answers = segment_samples(samples, spec, forward, precision, ignore_index=ignored)
            for (_, _, labels, name), (answer, loss) in zip(samples, answers, strict=True):
                predicted = answer.labels.cpu()
                score = evaluation.update(name, labels, predicted, loss)
                if worst is not None:
                    worst.offer(score, predicted)
                on_image(name, labels, predicted)
    return evaluation


def segment_samples(
    samples: list[EvaluationSample],
    spec: InputSpec,
    forward: Forward,
    precision: Precision,
    *,
    ignore_index: int,
) -> Iterator[tuple[Segmentation, float | None]]:
    """Each sample's answer at its labels' own size, and its loss at the network's input size, None
    where no pixel is labelled.

    The only place that knows how the input mode makes network inputs of an image.
    """
    if spec.mode == "tile":
        for sample in samples:
            yield _segment_tiles(sample, spec, forward, precision, ignore_index, len(samples))
        return
    pixels = torch.stack([sample[0] for sample in samples])  # (N, 3, h, w)
    with precision.autocast():
        logits = forward(network_input(pixels, spec, precision.device))  # (N, K, ~h, ~w)
        whole = _interpolated(logits, spec.height, spec.width)
    for index, (_, small_labels, labels, _) in enumerate(samples):
        target = small_labels.to(precision.device).long()
        loss = None
        if (target != ignore_index).any():
            loss = float(cross_entropy(whole[index : index + 1], target[None], ignore_index))
        height, width = labels.shape
        yield segment_logits(logits[index], height, width), loss


def _interpolated(logits: Tensor, height: int, width: int) -> Tensor:
    """(N, K, ~h, ~w) -> (N, K, h, w), as they are for the answer."""
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


def _segment_tiles(
    sample: EvaluationSample,
    spec: InputSpec,
    forward: Forward,
    precision: Precision,
    ignore_index: int,
    batch_size: int,
) -> tuple[Segmentation, float | None]:
    """One image by its tiles; the loss is over the labelled pixels of every tile."""
    pixels, labels = sample[0], sample[2]
    losses, counts = [], []

    def measure(tiles: list[Tile], logits: Tensor) -> None:
        for tile, each in zip(tiles, logits, strict=True):
            target = labels[tile.top :, tile.left :][: tile.height, : tile.width]
            whole = _interpolated(each[None], tile.height, tile.width)
            whole = whole[:, :, : target.shape[0], : target.shape[1]]
            target = target.to(each.device).long()
            count = int((target != ignore_index).sum())
            losses.append(count * float(cross_entropy(whole, target[None], ignore_index)))
            counts.append(count)

    with precision.autocast():
        answer = segment_tiled(
            pixels, spec, forward, batch_size=batch_size, device=precision.device, on_tiles=measure
        )
    return answer, sum(losses) / sum(counts) if any(counts) else None


def require_same_classes(manifest: Manifest, folder: VocFolder, *, name: str) -> None:
    """Evaluating against labels that mean something else would give figures without meaning."""
    ours, theirs = manifest.class_set().names, folder.class_set.names
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        differ_by_border = {len(ours), len(theirs)} == {21, 22}
        hint = " (--border class gives 22, --border ignore 21)" if differ_by_border else ""
        raise DatasetError(
            f"{name}: the checkpoint has {len(ours)} classes, the dataset {folder.root} "
            f"{len(theirs)}{hint}"
        )
    if ours == generic_classes(len(ours)).names:
        return  # a bare .pth says how many classes it has, not which
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


def none_if_nan(value: float) -> float | None:
    return None if value != value else value
