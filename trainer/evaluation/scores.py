"""How each image fared, and keeping the worst of them to be looked at."""

import math
from dataclasses import dataclass, field

from torch import Tensor

from trainer.evaluation.metrics import ConfusionMatrix


@dataclass(frozen=True)
class ImageScore:
    """Figures of one image, over its labelled pixels; NaN when it has none.

    The mean IoU is over the classes its labels hold, so that a stray pixel of another class
    lowers the IoU of the class it was taken from and does not add a zero to the mean.
    """

    id: str
    pixel_accuracy: float
    mean_iou: float
    labelled_pixels: int

    @classmethod
    def of(cls, image_id: str, matrix: ConfusionMatrix) -> "ImageScore":
        """From the matrix of this image alone."""
        labelled = matrix.labelled
        return cls(
            id=image_id,
            pixel_accuracy=matrix.pixel_accuracy(),
            mean_iou=matrix.mean_iou(labelled.nonzero().flatten().tolist()),
            labelled_pixels=int(labelled.sum()),
        )

    @property
    def rank(self) -> tuple[float, float, str]:
        """Sorts the worst first, images without a labelled pixel last."""
        if math.isnan(self.mean_iou):
            return math.inf, math.inf, self.id
        return self.mean_iou, self.pixel_accuracy, self.id


@dataclass
class WorstImages:
    """The `limit` worst images offered so far with the labels predicted for them, worst first.

    Nothing else is kept of them: image and labels can be read again.
    """

    limit: int
    images: list[tuple[ImageScore, Tensor]] = field(default_factory=list)

    def offer(self, score: ImageScore, predicted: Tensor) -> None:
        """`predicted` uint8 (H, W); an image without a labelled pixel is not taken."""
        if math.isnan(score.mean_iou):
            return
        self.images.append((score, predicted))
        self.images.sort(key=lambda image: image[0].rank)
        del self.images[self.limit :]
