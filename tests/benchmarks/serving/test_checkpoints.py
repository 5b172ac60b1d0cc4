"""Networks that nobody trained, with masks as if somebody had."""

from pathlib import Path

import torch

from benchmarks.serving.checkpoints import make_checkpoint, network_inputs
from benchmarks.serving.images import photographs
from models import load_checkpoint


def test_masks_have_a_few_areas_and_not_a_border_everywhere(tmp_path: Path) -> None:
    pictures = photographs([], tmp_path / "pictures", 4)
    checkpoint = load_checkpoint(make_checkpoint(tmp_path, "unet_resnet50", pictures))
    inputs = network_inputs(pictures, checkpoint.manifest.input)
    with torch.inference_mode():
        labels = checkpoint.network.eval()(inputs).argmax(1)  # (N, h, w)
    assert len(labels.unique()) > 1
    borders = (labels[:, :, 1:] != labels[:, :, :-1]).float().mean()
    assert borders < 0.1
