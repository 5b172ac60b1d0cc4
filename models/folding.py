"""Networks for inference alone: batch norm as part of the convolution before it."""

from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

M = TypeVar("M", bound=nn.Module)


def folded(network: M) -> M:
    """A copy in evaluation mode, with the same answers but for rounding: a batch norm whose
    statistics are fixed scales and shifts each channel, as the convolution before it can do itself.

    Every network here registers a batch norm right after the convolution whose output it takes.
    """
    copy = deepcopy(network).eval()
    for module in list(copy.modules()):
        for (name, convolution), (following, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, following, nn.Identity())
    return copy
