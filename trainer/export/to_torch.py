"""torch.export: a `.pt2` that `torch.export.load` runs without this project's code."""

from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from models import Checkpoint
from models.network import Forward, SegmentationNetwork
from trainer.export.packages import quiet


def trace(network: SegmentationNetwork) -> ExportedProgram:
    """The network's graph with batch, height and width left open.

    Traced on sizes of several strides each and all different: a size of one stride, or two equal
    ones, would be taken for a constant.
    """
    stride = network.stride
    example = torch.zeros(2, network.in_channels, 4 * stride, 6 * stride)
    anything = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with quiet(), torch.no_grad():
        return torch.export.export(network, (example,), dynamic_shapes=(anything,))


def write_torch(checkpoint: Checkpoint, path: Path) -> None:
    with quiet():
        torch.export.save(trace(checkpoint.network), path)


def load_torch(path: Path) -> Forward:
    with quiet():
        module: Forward = torch.export.load(path).module()
    return module
