"""What `evaluate` draws, its figures with augmentation, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models import save_checkpoint
from models.manifest import Manifest, manifest_classes
from tests.networks import manifest_for
from tests.trainer.command_line import refusal, succeed
from tests.trainer.datasets import THREE_CLASSES, three_class_dataset, write_split
from tests.undecided import undecided_network

# the names of everything measured, which programs read
FIGURES = {
    "dataset", "split", "images", "pixel_accuracy", "mean_iou", "mean_dice", "mean_boundary_iou",
    "per_class_iou", "loss", "tta", "per_class", "confusion_matrix", "per_image",
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """train: a, b, c; val: d; classes ground, red and green."""
    return three_class_dataset(tmp_path / "data", count=4)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network = undecided_network(num_classes=3)
    manifest = manifest_for(network, "unet_resnet50").model_copy(
        update={"classes": manifest_classes(THREE_CLASSES)}
    )
    path = tmp_path / "checkpoint.pth"
    save_checkpoint(path, network.state_dict(), Manifest.model_validate(manifest.model_dump()))
    return path


@pytest.fixture
def command(checkpoint: Path, data: Path) -> list[object]:
    return ["evaluate", "--checkpoint", checkpoint, "--data", data, "--split", "train"]


def figures_of(command: list[object], folder: Path, *options: object) -> dict[str, Any]:
    target = folder / "figures.json"
    succeed(*command, "--json", target, *options)
    figures: dict[str, Any] = json.loads(target.read_text())
    return figures


def test_the_figures_for_machines(command: list[object], tmp_path: Path) -> None:
    figures = figures_of(command, tmp_path)
    assert set(figures) == FIGURES
    assert figures["tta"] is None
    names = [row["name"] for row in figures["per_class"]]
    assert names == list(figures["per_class_iou"]) == ["ground", "red", "green"]
    assert [row["iou"] for row in figures["per_class"]] == list(figures["per_class_iou"].values())
    counts = figures["confusion_matrix"]
    assert [sum(row) for row in counts] == [row["labelled_pixels"] for row in figures["per_class"]]
    scores = figures["per_image"]
    assert sorted(score["id"] for score in scores) == ["a", "b", "c"]
    ious = [score["mean_iou"] for score in scores]
    assert ious == sorted(ious)


def test_augmentation_is_measured_beside_the_plain_figures(
    command: list[object], tmp_path: Path
) -> None:
    plain = figures_of(command, tmp_path)
    both = figures_of(command, tmp_path, "--tta")
    augmented = both.pop("with_tta")
    assert both == plain
    assert set(augmented) == FIGURES
    assert augmented["tta"] == {"flip": True, "scales": [0.75, 1.0, 1.25]}
    assert augmented["loss"] != plain["loss"]
    shown = succeed(*command, "--tta").words
    assert f"3 images: pixel accuracy {plain['pixel_accuracy']:.4f}" in shown
    words = f"with flip, scales 0.75, 1, 1.25: pixel accuracy {augmented['pixel_accuracy']:.4f}"
    assert words in shown


def test_the_worst_images_are_drawn_worst_first(command: list[object], tmp_path: Path) -> None:
    target = tmp_path / "pictures"
    figures = figures_of(command, tmp_path, "--pictures", target, "--worst", 2)
    expected = [f"{i}-{score['id']}.png" for i, score in enumerate(figures["per_image"][:2], 1)]
    assert sorted(path.name for path in (target / "worst").iterdir()) == [
        f"0{name}" for name in expected
    ]
    for name in ("confusion.png", "classes.png"):
        with Image.open(target / name) as picture:
            assert picture.width > 200


def test_pictures_of_an_earlier_evaluation_do_not_stay(
    command: list[object], tmp_path: Path
) -> None:
    worst = tmp_path / "pictures" / "worst"
    worst.mkdir(parents=True)
    for name in ("03-a.png", "07-holiday.png", "notes.txt"):
        (worst / name).touch()
    succeed(*command, "--pictures", tmp_path / "pictures", "--worst", 0)
    assert sorted(path.name for path in worst.iterdir()) == ["07-holiday.png", "notes.txt"]


@pytest.mark.parametrize("option", ["--samples", "--pictures"])
def test_a_file_in_a_pictures_folders_place_is_refused_before_the_work(
    option: str, command: list[object], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    line = refusal(*command, option, tmp_path / "file")
    assert line == f"error: {option} {tmp_path / 'file'}: is a file, not a folder"


def test_a_negative_number_of_worst_images_is_one_line(command: list[object]) -> None:
    assert refusal(*command, "--worst", "-1") == "error: --worst -1: must be 0 or more"


def test_a_folder_in_the_figures_place_is_one_line(command: list[object], tmp_path: Path) -> None:
    line = refusal(*command, "--json", tmp_path)
    assert line == f"error: --json {tmp_path}: is a folder, not a file"


def test_an_empty_split_is_one_line(command: list[object], data: Path) -> None:
    write_split(data, "train", [])
    assert "train.txt: the split is empty" in refusal(*command)
