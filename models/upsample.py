"""Class probabilities at a network's resolution to a label for every pixel of the image.

The class of a pixel is chosen among probabilities interpolated to that pixel, never at low
resolution. The CPU and NVIDIA's GPUs have ways of their own: `cpu_segment`, which takes logits, and
`cuda_segment`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models import cpu_segment, cuda_segment, numpy_segment
from models.devices import exact_device
from models.pixelwise import MAX_ROW, every_pixel


@dataclass(frozen=True)
class Segmentation:
    """One image's answer: `labels` uint8 (H, W); `pixels` int64 (K,), how often each class was
    chosen; `confidence` float64 (K,), the sum of its probability over those pixels. `whole` is
    what they are parts of, if they are."""

    labels: Tensor
    pixels: Tensor
    confidence: Tensor
    whole: Tensor | None = None

    def cpu(self) -> "Segmentation":
        """A GPU is waited for once where it is one tensor."""
        if self.whole is None:
            return Segmentation(self.labels.cpu(), self.pixels.cpu(), self.confidence.cpu())
        whole = self.whole.cpu()
        return Segmentation(*cuda_segment.parts(whole, len(self.pixels), *self.labels.shape))


def segment_logits(logits: Tensor, height: int, width: int) -> Segmentation:
    """Logits (K, h, w) -> the answer for an image of height x width, by way of their softmax."""
    if exact_device(logits.device).type == "cpu":
        found = cpu_segment.segment(logits.cpu(), height, width)
        return Segmentation(*(torch.from_numpy(each) for each in found))
    return segment_probabilities(logits.float().softmax(0), height, width)


def segment_probabilities(probabilities: Tensor, height: int, width: int) -> Segmentation:
    """Probabilities (K, h, w) are interpolated to height x width in float32 (bilinear, pixel
    centres aligned, as `F.interpolate(align_corners=False)`), then the class is chosen.

    Beside the answer takes memory for a bounded number of pixels: the probabilities of a
    100-megapixel image would be gigabytes.
    """
    probabilities = probabilities.to(exact_device(probabilities.device), torch.float32)
    if cuda_segment.can_segment(probabilities.device):
        whole = cuda_segment.segment(probabilities, height, width)
        parts = cuda_segment.parts(whole, len(probabilities), height, width)
        return Segmentation(*parts, whole=whole)
    if len(probabilities) * width > MAX_ROW:  # only the CPU needs no whole row
        probabilities = probabilities.cpu()
    if probabilities.device.type == "cpu":
        found = numpy_segment.segment(probabilities.detach().numpy(), height, width)
        return Segmentation(*(torch.from_numpy(each) for each in found))
    num_classes = len(probabilities)
    classes = torch.arange(num_classes, device=probabilities.device)
    return Segmentation(*every_pixel(probabilities, classes, height, width, num_classes))
