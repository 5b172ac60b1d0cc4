"""Pixels to network input.

Training and serving share these functions, so that a network sees in production what it saw in
training.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from models.manifest import InputSpec

PADDING_COLOR = 124  # mid-grey, near the mean of photographs


def resize_pixels(pixels: Tensor, height: int, width: int) -> Tensor:
    """uint8 (3, H, W) -> uint8 (3, height, width), bilinear with antialiasing."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    if pixels.shape[-2] > height and pixels.shape[-1] < width:
        # rows first: widening comes first otherwise, and a column of a million pixels would be
        # held at a million times the width
        pixels = T.resize(pixels, [height, pixels.shape[-1]], antialias=True)
    resized: Tensor = T.resize(pixels, [height, width], antialias=True)
    return resized


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (..., C, H, W) in 0..255 -> float32, (x / 255 - mean) / std per channel."""
    mean, std = _of_full_scale(spec.mean, pixels.device), _of_full_scale(spec.std, pixels.device)
    return (pixels.float() - mean) / std


@lru_cache(maxsize=64)
def _of_full_scale(fractions: tuple[float, ...], device: torch.device) -> Tensor:
    """(C, 1, 1), 255 for 1; kept, since what comes from the CPU has to be waited for on a GPU."""
    with torch.inference_mode(False):  # training uses it too
        return torch.tensor(fractions, device=device).view(-1, 1, 1) * 255


def network_input(pixels: Tensor, spec: InputSpec, device: torch.device) -> Tensor:
    """uint8 (N, C, h, w) anywhere -> normalised float32 on the device, channels last, the layout
    in which convolutions run fastest."""
    images = normalise(pixels.to(device, non_blocking=True), spec)
    return images.contiguous(memory_format=torch.channels_last)
