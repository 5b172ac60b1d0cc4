"""What happens to an image and its labels between the disk and a training batch."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as T

from models.geometry import PADDING_COLOR, resize_pixels

TrainingTransform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def plain_pair(image: Tensor, labels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Both at the input's size: the image as in serving, the labels by nearest neighbour."""
    return resize_pixels(image, height, width), resize_labels(labels, height, width)


def resize_labels(labels: Tensor, height: int, width: int) -> Tensor:
    """uint8 (H, W) -> uint8 (height, width); ids are never mixed."""
    if labels.shape == (height, width):
        return labels
    nearest = v2.InterpolationMode.NEAREST_EXACT
    resized: Tensor = T.resize(labels[None], [height, width], interpolation=nearest)[0]
    return resized


class PlainResize:
    """The report's preparation: every image at the input's size, no augmentation."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return plain_pair(image, labels, self.height, self.width)


class ScaleCropFlip:
    """Random scale, crop, flip and colour, centred on what the network sees in serving."""

    def __init__(self, height: int, width: int, *, ignore_index: int) -> None:
        self.transform = v2.Compose(
            [
                RandomScale(height, width, scale=(0.7, 1.75), stretch=1.2),
                v2.RandomCrop(
                    (height, width),
                    pad_if_needed=True,
                    fill={tv_tensors.Image: PADDING_COLOR, tv_tensors.Mask: ignore_index},
                ),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.3, 0.3, 0.3)], p=0.5),
            ]
        )

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        pixels, mask = self.transform(tv_tensors.Image(image), tv_tensors.Mask(labels))
        return torch.as_tensor(pixels).contiguous(), torch.as_tensor(mask).contiguous()


class RandomScale(v2.Transform):  # type: ignore[misc]  # torchvision is not typed
    """Resizes to the input's size times a log-uniform factor, and another for the aspect ratio.

    Factor 1 is what serving does: the whole image stretched to (height, width).
    """

    def __init__(
        self, height: int, width: int, *, scale: tuple[float, float], stretch: float
    ) -> None:
        super().__init__()
        self.height = height
        self.width = width
        self.scale = scale
        self.stretch = stretch

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        low, high = (math.log(value) for value in self.scale)
        factor = math.exp(float(torch.empty(()).uniform_(low, high)))
        bound = math.log(self.stretch)
        aspect = math.exp(float(torch.empty(()).uniform_(-bound, bound)) / 2)
        return {
            "size": [
                max(1, round(self.height * factor / aspect)),
                max(1, round(self.width * factor * aspect)),
            ]
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            nearest = v2.InterpolationMode.NEAREST_EXACT
            return self._call_kernel(T.resize, inpt, size=params["size"], interpolation=nearest)
        return resize_pixels(inpt, *params["size"])
