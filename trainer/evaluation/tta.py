"""Test-time augmentation: one answer out of several looks at the same image."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from models.network import Forward


@dataclass(frozen=True)
class TestTimeAugmentation:
    """Which looks are averaged: the image at each scale, and its mirror image if `flip`."""

    __test__ = False  # pytest collects what is called Test…

    flip: bool = True
    scales: tuple[float, ...] = (0.75, 1.0, 1.25)

    def __post_init__(self) -> None:
        if not self.scales or not all(scale > 0 for scale in self.scales):
            raise ValueError(f"scales {self.scales} must be one number above 0, or several")

    def __str__(self) -> str:
        scales = "scales " + ", ".join(f"{scale:g}" for scale in self.scales)
        return f"flip, {scales}" if self.flip else scales

    @property
    def passes(self) -> int:
        """Forward passes an image costs, each of its scale's square times the work."""
        return len(self.scales) * (2 if self.flip else 1)

    def around(self, forward: Forward) -> Forward:
        """A forward whose answers are the logarithm of the looks' mean softmax.

        Each look's logits are brought to (h, w) before their softmax, from whatever resolution
        they have. The softmax of the result is that mean, so a loss or a further resize
        treats it like any logits.
        """

        def averaged(images: Tensor) -> Tensor:
            looks = (logits.float().softmax(1) for logits in self._looks(forward, images))
            mean = reduce(torch.add, looks) / self.passes  # (N, K, h, w)
            return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()  # no -inf: 0 * inf is NaN

        return averaged

    def _looks(self, forward: Forward, images: Tensor) -> Iterator[Tensor]:
        """Logits (N, K, h, w) of every look, aligned with `images`."""
        height, width = images.shape[-2:]
        for scale in self.scales:
            scaled = _resize(images, max(1, round(height * scale)), max(1, round(width * scale)))
            yield _resize(forward(scaled), height, width)
            if self.flip:
                yield _resize(forward(scaled.flip(-1)).flip(-1), height, width)


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(
        images.float(), size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )
