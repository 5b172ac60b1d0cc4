"""How an exported network is asked, which must be how the service asks the checkpoint."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.geometry import network_input, resize_pixels, segment_logits
from models.manifest import InputSpec
from trainer.errors import ConfigError

Forward = Callable[[Tensor], Tensor]  # float32 (N, C, h, w) -> float32 logits (N, K, h, w)

CPU = torch.device("cpu")


def prepared(image: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (C, H, W) -> the network's input, float32 (1, C, h, w)."""
    if spec.mode != "resize":
        raise ConfigError(f"--checkpoint: input mode {spec.mode!r} cannot be exported")
    small = resize_pixels(image, spec.height, spec.width)
    return network_input(small[None], spec, CPU)


def chosen_labels(forward: Forward, image: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (C, H, W) -> uint8 (H, W) class ids at the image's own size."""
    height, width = image.shape[-2:]
    return segment_logits(forward(prepared(image, spec))[0], height, width).labels
