"""A whole image's way through a network, whatever the input mode of its manifest."""

import torch
from torch import Tensor

from models.geometry import network_input, resize_pixels
from models.manifest import InputSpec
from models.network import Forward, SegmentationNetwork
from models.tiling import segment_tiled
from models.upsample import Segmentation, segment_logits


def forward_for(network: SegmentationNetwork) -> Forward:
    """What whoever serves, predicts or measures asks of a network: logits at the resolution at
    which they were computed, since they are interpolated to the pixels of an image or a tile."""
    if not network.ends_interpolated:
        return network  # `torch.compile` counts by code: one method would be shared by all of these
    return network.native_logits


@torch.inference_mode()
def segment_image(
    pixels: Tensor, spec: InputSpec, forward: Forward, *, device: torch.device, batch_size: int
) -> Segmentation:
    """Segments uint8 (3, H, W) as the network was trained to see it: resized whole, or in tiles,
    `batch_size` of them at a time. `forward` maps normalised (N, 3, h, w) to logits (N, K, ~h, ~w).
    """
    if spec.mode == "tile":
        return segment_tiled(pixels, spec, forward, batch_size=batch_size, device=device)
    small = resize_pixels(pixels, spec.height, spec.width)
    logits = forward(network_input(small[None], spec, device))[0]  # (K, ~h, ~w)
    return segment_logits(logits, pixels.shape[1], pixels.shape[2])
