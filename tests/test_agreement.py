"""`evaluate`, a script of one's own with torchmetrics, and the service say the same of a `.pth`."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassJaccardIndex,
)

from models import load_checkpoint, save_checkpoint
from models.classes import voc_classes
from models.geometry import normalise, resize_pixels
from models.manifest import Manifest, manifest_classes
from models.upsample import segment_logits
from service.app import create_app
from tests.networks import manifest_for
from tests.service.clients import client_for, settings_for
from tests.trainer.command_line import succeed
from tests.undecided import KINDS, undecided_network
from tests.voc_folder import make_voc_folder
from trainer.data.dataset import VocFolder
from trainer.evaluation.metrics import ConfusionMatrix

K, IGNORE = 21, 255


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = undecided_network(num_classes=K, name=request.param)
    manifest = manifest_for(network, request.param).model_copy(
        update={"classes": manifest_classes(voc_classes(border="ignore"))}
    )
    path = tmp_path_factory.mktemp("checkpoints") / "random.pth"
    save_checkpoint(path, network.state_dict(), Manifest.model_validate(manifest.model_dump()))
    return path


@pytest.fixture(scope="module")
def data(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images in `train`, as PNG: two decoders may differ on a JPEG. The masks are what the
    network answers but for a third, so that many classes are found in part."""
    folder = tmp_path_factory.mktemp("data")
    root = make_voc_folder(folder / "voc", count=12, seed=3)
    images = root / "JPEGImages"
    for path in images.glob("*.jpg"):
        with Image.open(path) as image:
            image.save(path.with_suffix(".png"))
        path.unlink()
    answers = ("--checkpoint", checkpoint, "--images", images, "--out", folder / "answers")
    succeed("predict", *answers, "--device", "cpu")
    for path in (root / "SegmentationClass").glob("*.png"):
        with Image.open(path) as mask, Image.open(folder / "answers" / path.name) as answer:
            ids, right = np.array(mask), mask.width // 3
            ids[:, right:] = np.array(answer)[:, right:]
        Image.fromarray(ids).save(path)
    return root


@pytest.fixture(scope="module")
def figures(
    data: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    target = tmp_path_factory.mktemp("figures") / "figures.json"
    options = ("--split", "train", "--device", "cpu", "--json", target)
    succeed("evaluate", "--checkpoint", checkpoint, "--data", data, *options)
    content: dict[str, Any] = json.loads(target.read_text())
    return content


def test_a_script_with_torchmetrics_gets_the_same_figures(
    data: Path, checkpoint: Path, figures: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"num_classes": K, "ignore_index": IGNORE}
    accuracy = MulticlassAccuracy(average="micro", **options)
    iou = MulticlassJaccardIndex(average="macro", **options)
    dice = MulticlassF1Score(average="macro", **options)
    loaded = load_checkpoint(checkpoint)
    spec = loaded.manifest.input
    folder = VocFolder.open(data, border="ignore")
    for name in folder.split("train"):
        image, labels = folder.read_pair(name)
        small = resize_pixels(image, spec.height, spec.width)
        with torch.no_grad():
            logits = loaded.network.native_logits(normalise(small[None], spec))[0]
        predicted = segment_logits(logits, *labels.shape).labels
        for metric in (accuracy, iou, dice):
            metric.update(predicted[None].long(), labels[None].long())
    # to a pixel or two out of forty thousand: another order of the same sums can break a tie
    assert figures["pixel_accuracy"] == pytest.approx(float(accuracy.compute()), abs=1e-4)
    assert figures["mean_iou"] == pytest.approx(float(iou.compute()), abs=1e-4)
    assert figures["mean_dice"] == pytest.approx(float(dice.compute()), abs=1e-4)
    assert 0.5 < figures["pixel_accuracy"] < 0.9
    assert len([value for value in figures["per_class_iou"].values() if value]) > 3


def test_the_services_masks_have_the_same_confusion_matrix(
    data: Path, checkpoint: Path, figures: dict[str, Any]
) -> None:
    folder = VocFolder.open(data, border="ignore")
    matrix = ConfusionMatrix(K, ignore_index=IGNORE)
    settings = settings_for(checkpoint.parent, model="random")
    with client_for(create_app(settings)) as client:
        for name in folder.split("train"):
            content = folder.image_path(name).read_bytes()
            answer = client.post(
                "/segment", files={"file": content}, headers={"Accept": "image/png"}
            )
            assert answer.status_code == 200, answer.text
            with Image.open(io.BytesIO(answer.content)) as mask:
                matrix.update(folder.read_labels(name), torch.from_numpy(np.array(mask)))
    assert matrix.counts.tolist() == figures["confusion_matrix"]
    assert (matrix.predicted > 0).sum() > 3
