"""How an exported network is asked, and the checkpoint's that it is compared with: both for logits
at the input's size, which is what an exported file gives."""

import torch
from torch import Tensor

from models.manifest import InputSpec
from models.network import Forward
from models.segmentation import segment_image

CPU = torch.device("cpu")


def chosen_labels(forward: Forward, image: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (C, H, W) -> uint8 (H, W) class ids at the image's own size."""
    return segment_image(image, spec, forward, device=CPU, batch_size=1).labels
