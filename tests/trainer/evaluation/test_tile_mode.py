"""Training on crops at the images' own resolution, measured and served by sliding window."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models import load_checkpoint
from models.manifest import InputSpec
from models.network import SegmentationNetwork
from models.segmentation import segment_image
from tests.trainer.command_line import refusal
from tests.trainer.datasets import THREE_CLASSES, three_class_dataset
from tests.trainer.runs import SMALL, fit, manifest
from trainer.data.dataset import VocFolder
from trainer.evaluation.evaluate import evaluate_network
from trainer.evaluation.metrics import ConfusionMatrix
from trainer.precision import Precision

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 90x70, larger than a tile of 32 in both directions; three to train on."""
    root = tmp_path_factory.mktemp("tiled") / "data"
    return three_class_dataset(root, count=5, height=70, width=90)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiles"
    fit(data, out, "--input-mode", "tile", "--recipe", "standard", "--epochs", "2")
    return out


def test_the_manifest_says_how_the_network_is_to_be_used(run: Path) -> None:
    written = manifest(run / "checkpoints/last.pth")["input"]
    assert (written["mode"], written["height"], written["width"]) == ("tile", 32, 32)


def test_the_figures_are_those_of_the_sliding_window(run: Path, data: Path) -> None:
    checkpoint = load_checkpoint(run / "checkpoints/last.pth")
    folder = VocFolder.open(data)
    matrix = ConfusionMatrix(len(THREE_CLASSES), ignore_index=255)
    for image_id in folder.split("val"):
        image, labels = folder.read_pair(image_id)
        answer = segment_image(
            image, checkpoint.manifest.input, checkpoint.network, device=CPU, batch_size=3
        )
        matrix.update(labels, answer.labels)
    metrics = checkpoint.manifest.metrics
    assert metrics is not None
    assert metrics.pixel_accuracy == pytest.approx(matrix.pixel_accuracy(), abs=2e-3)
    assert metrics.mean_iou == pytest.approx(matrix.mean_iou(), abs=2e-3)


def test_the_loss_is_over_the_labelled_pixels_of_every_tile(data: Path) -> None:
    """For logits that depend on the pixel alone, an image of tiles side by side has the loss of
    the whole image."""
    folder = VocFolder.open(data)
    spec = load_spec(overlap=0.0)
    network = PixelByPixel()
    ids = folder.split("val")
    evaluation = evaluate_network(network, folder, ids, spec, Precision(CPU))
    image, labels = folder.read_pair(ids[0])
    pixels = (image.float() / 255 - 0.5) / 0.25
    with torch.inference_mode():
        expected = F.cross_entropy(network(pixels[None]), labels[None].long(), ignore_index=255)
    assert evaluation.loss == pytest.approx(float(expected), rel=1e-5)


class PixelByPixel(SegmentationNetwork):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.only = torch.nn.Conv2d(3, 3, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.only(images)
        return logits


def load_spec(*, overlap: float) -> InputSpec:
    """Tiles of 35x45: two by two of them are the image, exactly."""
    return InputSpec(
        mode="tile",
        height=35,
        width=45,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        stride=1,
        overlap=overlap,
    )


def test_an_image_smaller_than_a_tile_is_trained_on_and_measured(tmp_path: Path) -> None:
    root = three_class_dataset(tmp_path / "small", count=4, height=20, width=100)
    fit(root, tmp_path / "run", "--input-mode", "tile", "--epochs", "1")
    metrics = manifest(tmp_path / "run/checkpoints/last.pth")["metrics"]
    assert metrics["images"] == 1
    assert np.isfinite(metrics["loss"])


def test_a_crop_of_its_own_is_refused(data: Path, tmp_path: Path) -> None:
    options = ("--input-mode", "tile", "--crop-size", "64")
    line = refusal("fit", "--data", data, "--out", tmp_path / "run", *SMALL, *options)
    assert "--crop-size 64" in line
