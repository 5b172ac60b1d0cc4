"""Pixels to network input.

Training and serving share these functions, so that a network sees in production what it saw in
training.
"""

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from models.manifest import InputSpec

PADDING_COLOR = 124  # mid-grey, near the mean of photographs


def resize_pixels(pixels: Tensor, height: int, width: int) -> Tensor:
    """uint8 (..., 3, H, W) -> uint8 (..., 3, height, width), bilinear with antialiasing."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    if pixels.shape[-2] > height and pixels.shape[-1] < width:
        # rows first: widening comes first otherwise, and a column of a million pixels would be
        # held at a million times the width
        pixels = T.resize(pixels, [height, pixels.shape[-1]], antialias=True)
    resized: Tensor = T.resize(pixels, [height, width], antialias=True)
    return resized


class Normalisation:
    """What an input's mean and deviation do to pixels, kept on a device."""

    def __init__(self, spec: InputSpec, device: torch.device) -> None:
        self._mean, self._std = (
            torch.tensor(fractions, device=device).view(-1, 1, 1) * 255
            for fractions in (spec.mean, spec.std)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 (..., C, H, W) in 0..255 -> float32, (x / 255 - mean) / std per channel."""
        return (pixels.float() - self._mean) / self._std


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """`Normalisation`, once."""
    return Normalisation(spec, pixels.device)(pixels)


def network_input(pixels: Tensor, spec: InputSpec, device: torch.device) -> Tensor:
    """uint8 (N, C, h, w) anywhere -> normalised float32 on the device, channels last, the layout
    in which convolutions run fastest."""
    images = normalise(pixels.to(device, non_blocking=True), spec)
    return images.contiguous(memory_format=torch.channels_last)
