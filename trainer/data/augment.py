"""What happens to an image and its labels between the disk and a training batch."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as T

from models.geometry import PADDING_COLOR, resize_pixels
from trainer.config import FitConfig
from trainer.recipe import Recipe

Size = tuple[int, int]  # height, width
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


def training_transform(config: FitConfig, *, ignore_index: int) -> TrainingTransform:
    """What the configuration asks for: pairs of the training size."""
    recipe, size = config.recipe, config.training_size
    whole = None if config.input_mode == "tile" else config.input_size
    scale = (recipe.scale_min, recipe.scale_max) if recipe.augment else (1.0, 1.0)
    scaling = RandomScale(whole, scale=scale, stretch=recipe.stretch if recipe.augment else 1.0)
    if recipe.augment:
        return RandomVariation(scaling, size, recipe, ignore_index=ignore_index)
    if size == whole:
        return PlainResize(*size)
    still = replace(recipe, rotation=0, flip=0, color=0, blur=0)
    return RandomVariation(scaling, size, still, ignore_index=ignore_index)


class PlainResize:
    """The report's preparation: every image at the input's size, no augmentation."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return plain_pair(image, labels, self.height, self.width)


class RandomVariation:
    """Random scale, rotation, crop, flip, colour and blur, around what the network sees in serving.

    Labels are moved by nearest neighbour; where the image ends they are ignored. Rotation comes
    before the crop, so that most turned images have no empty corners.
    """

    def __init__(self, scaling: v2.Transform, size: Size, recipe: Recipe, *, ignore_index: int):
        fill = {tv_tensors.Image: PADDING_COLOR, tv_tensors.Mask: ignore_index}
        steps = [scaling]
        if recipe.rotation:
            bilinear = v2.InterpolationMode.BILINEAR  # of the image; masks stay nearest
            turn = v2.RandomRotation(recipe.rotation, interpolation=bilinear, fill=fill)
            steps.append(v2.RandomApply([turn], p=0.3))
        steps.append(v2.RandomCrop(size, pad_if_needed=True, fill=fill))
        steps.append(v2.RandomHorizontalFlip(recipe.flip))
        if recipe.color:
            jitter = v2.ColorJitter(recipe.color, recipe.color, recipe.color)
            steps.append(v2.RandomApply([jitter], p=0.5))
        if recipe.blur:
            steps.append(v2.RandomApply([v2.GaussianBlur(5, sigma=(0.2, 1.5))], p=recipe.blur))
        self.transform = v2.Compose(steps)

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        pixels, mask = self.transform(tv_tensors.Image(image), tv_tensors.Mask(labels))
        return torch.as_tensor(pixels).contiguous(), torch.as_tensor(mask).contiguous()


class RandomScale(v2.Transform):  # type: ignore[misc]  # torchvision is not typed
    """Resizes by a log-uniform factor, and another for the aspect ratio.

    Factor 1 is what serving does: the whole image stretched to `size`, or, where that is None (a
    network served by tiles), the image as it is.
    """

    def __init__(self, size: Size | None, *, scale: tuple[float, float], stretch: float) -> None:
        super().__init__()
        self.size = size
        self.scale = scale
        self.stretch = stretch

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = self.size or flat_inputs[0].shape[-2:]
        factor = _log_uniform(*self.scale)
        aspect = math.sqrt(_log_uniform(1 / self.stretch, self.stretch))
        return {
            "size": [
                max(1, round(height * factor / aspect)),
                max(1, round(width * factor * aspect)),
            ]
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, tv_tensors.Mask):
            nearest = v2.InterpolationMode.NEAREST_EXACT
            return self._call_kernel(T.resize, inpt, size=params["size"], interpolation=nearest)
        return resize_pixels(inpt, *params["size"])


def _log_uniform(low: float, high: float) -> float:
    return math.exp(float(torch.empty(()).uniform_(math.log(low), math.log(high))))
