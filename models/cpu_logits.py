"""Logits in the CPU's memory as the compiled sources take them."""

import torch
from torch import Tensor

from models import compiled

DTYPES = (torch.float32, torch.bfloat16)


class LogitsInMemory(compiled.LogitsLayout):
    """(K, h, w) of any strides, which live as long as this does."""

    def __init__(self, logits: Tensor) -> None:
        """ValueError for nothing at all, or more classes than a label has values."""
        num_classes, height, width = logits.shape
        if not logits.numel():
            raise ValueError(f"no logits: {num_classes} x {height} x {width}")
        if num_classes > compiled.MAX_CLASSES:
            raise ValueError(f"{num_classes} classes; at most {compiled.MAX_CLASSES}")
        self._logits = logits if logits.dtype in DTYPES else logits.float()
        is_bfloat16 = self._logits.dtype == torch.bfloat16
        super().__init__(
            *(self._logits.data_ptr(), is_bfloat16, *self._logits.stride()),
            *(num_classes, height, width),
        )
