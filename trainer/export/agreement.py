"""Whether an exported network says what its checkpoint says, in figures."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.classes import ClassSet
from models.geometry import network_input
from models.manifest import InputSpec
from models.network import Forward
from trainer.errors import ExportError
from trainer.evaluation.evaluate import none_if_nan
from trainer.evaluation.metrics import ConfusionMatrix
from trainer.export.inference import CPU, chosen_labels

Item = tuple[Tensor, Tensor | None]  # image uint8 (C, H, W), labels uint8 (H, W) if there are any


@dataclass(frozen=True)
class Thresholds:
    """What an exported file must reach: the share of pixels that keep their class, the mean IoU
    it may lose (or gain, unless `may_gain`), and the error of its logits relative to their size."""

    min_agreement: float
    max_iou_drop: float
    max_logit_error: float
    may_gain: bool = False  # rounding to 8 bits moves the figure either way


@dataclass(frozen=True)
class Agreement:
    """Figures of one comparison; the mean IoUs are None where no image had labels."""

    images: int
    pixel_agreement: float
    mean_iou_checkpoint: float | None
    mean_iou_exported: float | None
    logit_error: float  # the largest of the sizes tried
    sizes_tried: list[list[int]]  # (N, C, h, w) of each

    @property
    def iou_drop(self) -> float | None:
        """Positive where the exported file is worse."""
        if self.mean_iou_checkpoint is None or self.mean_iou_exported is None:
            return None
        return self.mean_iou_checkpoint - self.mean_iou_exported

    def require(self, thresholds: Thresholds, *, name: str) -> None:
        """Raises an ExportError with the figures and the thresholds in one line."""
        drop = self.iou_drop
        moved = 0.0 if drop is None else drop if thresholds.may_gain else abs(drop)
        good = (
            self.pixel_agreement >= thresholds.min_agreement
            and moved <= thresholds.max_iou_drop
            and self.logit_error <= thresholds.max_logit_error
        )
        if not good:
            shown = "unknown" if drop is None else f"{drop:.4f}"
            raise ExportError(
                f"{name}: refused, nothing was written: on {self.images} images pixel agreement "
                f"is {self.pixel_agreement:.5f} (at least {thresholds.min_agreement}), mean IoU "
                f"drop {shown} (at most {thresholds.max_iou_drop}), relative logit error "
                f"{self.logit_error:.2g} (at most {thresholds.max_logit_error})"
            )

    def record(self, thresholds: Thresholds, source: str) -> dict[str, Any]:
        return {
            "compared_on": source,
            **asdict(self),
            "mean_iou_drop": self.iou_drop,
            "thresholds": asdict(thresholds),
        }


def compare(
    reference: Forward,
    exported: Forward,
    items: Iterable[Item],
    spec: InputSpec,
    class_set: ClassSet,
    *,
    on_image: Callable[[], None] = lambda: None,
) -> Agreement:
    """Asks both for every image, and for a batch of two at three sizes.

    The checkpoint's network must be in float32 on the CPU.
    """
    matrices = [
        ConfusionMatrix(len(class_set), ignore_index=class_set.ignore_index) for _ in range(2)
    ]
    images = same = pixels = 0
    error = 0.0
    sizes: list[list[int]] = []
    with torch.inference_mode():
        for image, labels in items:
            answers = [chosen_labels(forward, image, spec) for forward in (reference, exported)]
            if not images:
                error, sizes = _logit_error(reference, exported, image, spec)
            images += 1
            same += int((answers[0] == answers[1]).sum())
            pixels += answers[0].numel()
            if labels is not None:
                for matrix, answer in zip(matrices, answers, strict=True):
                    matrix.update(labels, answer)
            on_image()
    before, after = (none_if_nan(matrix.mean_iou()) for matrix in matrices)
    return Agreement(images, same / pixels, before, after, error, sizes)


def _logit_error(
    reference: Forward, exported: Forward, image: Tensor, spec: InputSpec
) -> tuple[float, list[list[int]]]:
    """|exported - reference| / |reference|, the largest over sizes other than the trained one."""
    worst, sizes = 0.0, []
    for count, height, width in _other_sizes(spec):
        resized = F.interpolate(image[None].float(), size=(height, width), mode="bilinear")
        batch = torch.cat([resized, resized.flip(-1)])[:count].round().to(torch.uint8)
        images = network_input(batch, spec, CPU)
        expected, actual = reference(images), exported(images)
        sizes.append(list(images.shape))
        if actual.shape != expected.shape:
            return float("inf"), sizes
        error = float((actual - expected).norm() / expected.norm().clamp(min=1e-12))
        worst = max(worst, error) if error == error else float("inf")
    return worst, sizes


def _other_sizes(spec: InputSpec) -> list[tuple[int, int, int]]:
    """(N, h, w): a batch, and a larger and a smaller size that are no multiple of the stride."""
    stride = spec.stride
    smaller = [max(side - stride - 1, stride + 1) for side in (spec.height, spec.width)]
    return [
        (2, spec.height, spec.width),
        (2, spec.height + stride + 1, spec.width + 2 * stride - 1),
        (1, smaller[0], smaller[1]),
    ]
