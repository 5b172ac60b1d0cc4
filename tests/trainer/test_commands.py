"""What `evaluate`, `predict` and `check` say, write and return."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import save_checkpoint
from models.classes import ClassSet, SegmentationClass, voc_classes
from models.manifest import Manifest, manifest_classes
from tests.networks import manifest_for
from tests.trainer.command_line import refusal, run_command, succeed
from tests.trainer.datasets import (
    THREE_CLASSES,
    noise,
    quarters,
    three_class_dataset,
    write_classes,
    write_image,
    write_mask,
    write_split,
)
from tests.undecided import undecided_network
from trainer.pictures.samples import GAP


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """train: a, b, c; val: d; classes ground, red and green."""
    return three_class_dataset(tmp_path / "data", count=4)


def save(folder: Path, class_set: ClassSet) -> Path:
    """A checkpoint that gives every class of `class_set` somewhere."""
    network = undecided_network(num_classes=len(class_set))
    content = manifest_for(network, "unet_resnet50").model_copy(
        update={"classes": manifest_classes(class_set)}
    )
    path = folder / "checkpoint.pth"
    save_checkpoint(path, network.state_dict(), Manifest.model_validate(content.model_dump()))
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(tmp_path, THREE_CLASSES)


# --- evaluate ---------------------------------------------------------------------------------


def evaluate(checkpoint: Path, data: Path, folder: Path, *options: object) -> dict[str, Any]:
    """The figures as a strict JSON reader sees them."""
    target = folder / "figures.json"
    succeed("evaluate", "--checkpoint", checkpoint, "--data", data, "--json", target, *options)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    figures: dict[str, Any] = json.loads(target.read_text(), parse_constant=refuse)
    return figures


def test_evaluate_writes_its_figures(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    figures = evaluate(checkpoint, data, tmp_path, "--split", "train")
    assert (figures["dataset"], figures["split"], figures["images"]) == ("data", "train", 3)
    assert list(figures["per_class_iou"]) == ["ground", "red", "green"]
    ious = [value for value in figures["per_class_iou"].values() if value is not None]
    assert figures["mean_iou"] == pytest.approx(sum(ious) / len(ious))
    assert 0 < figures["pixel_accuracy"] < 1
    assert figures["loss"] > 0
    assert "mean_iou_of" not in figures


def test_evaluate_shows_its_figures(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    figures = evaluate(checkpoint, data, tmp_path)
    shown = succeed("evaluate", "--checkpoint", checkpoint, "--data", data).words
    assert f"1 image: pixel accuracy {figures['pixel_accuracy']:.4f}" in shown
    assert f"mean IoU {figures['mean_iou']:.4f}" in shown
    assert f"mean Dice {figures['mean_dice']:.4f}" in shown
    assert f"mean boundary IoU {figures['mean_boundary_iou']:.4f}" in shown
    green = figures["per_class"][2]
    shares = [green[key] for key in ("iou", "dice", "boundary_iou", "precision", "recall")]
    assert f"green {' '.join(f'{share:.4f}' for share in shares)} 33.33% " in shown


def test_evaluate_means_over_the_named_classes(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    figures = evaluate(checkpoint, data, tmp_path, "--classes", "green,ground")
    iou = figures["per_class_iou"]
    assert figures["mean_iou_of"]["classes"] == ["green", "ground"]
    assert figures["mean_iou_of"]["mean_iou"] == pytest.approx((iou["green"] + iou["ground"]) / 2)


def test_a_mean_over_absent_classes_is_null(data: Path, tmp_path: Path) -> None:
    """NaN is not JSON."""
    names = [*THREE_CLASSES.classes, SegmentationClass(3, "blue", (0, 0, 255))]
    four = ClassSet(tuple(names))
    write_classes(data, four)
    checkpoint = save(tmp_path, four)
    network_without_blue(checkpoint, four)
    figures = evaluate(checkpoint, data, tmp_path, "--classes", "blue")
    assert figures["per_class_iou"]["blue"] is None
    assert figures["mean_iou_of"]["mean_iou"] is None


def network_without_blue(path: Path, class_set: ClassSet) -> None:
    """Rewrites the checkpoint so that the last class is never predicted."""
    network = undecided_network(num_classes=len(class_set))
    state = network.state_dict()
    state["UnetConv2_3.bias"][-1] = -1e6
    content = manifest_for(network, "unet_resnet50").model_copy(
        update={"classes": manifest_classes(class_set)}
    )
    save_checkpoint(path, state, Manifest.model_validate(content.model_dump()))


def test_an_unknown_class_lists_the_classes(checkpoint: Path, data: Path) -> None:
    line = refusal("evaluate", "--checkpoint", checkpoint, "--data", data, "--classes", "blue")
    assert "--classes: 'blue' is not one of ground, red, green" in line


@pytest.mark.parametrize("names", ["", ",", " , "])
def test_a_mean_over_no_class_is_refused(names: str, checkpoint: Path, data: Path) -> None:
    line = refusal("evaluate", "--checkpoint", checkpoint, "--data", data, "--classes", names)
    assert line == f"error: --classes {names!r}: names no class"


@pytest.mark.parametrize(("border", "other"), [("class", "ignore"), ("ignore", "class")])
def test_evaluate_points_at_the_border_when_the_class_counts_differ(
    border: str, other: str, data: Path, tmp_path: Path
) -> None:
    (data / "classes.json").unlink()
    checkpoint = save(tmp_path, voc_classes(border=border))
    line = refusal("evaluate", "--checkpoint", checkpoint, "--data", data, "--border", other)
    assert "checkpoint.pth" in line
    assert "21" in line
    assert "22" in line
    assert "--border class" in line


def test_the_border_is_not_blamed_for_other_classes(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    (data / "classes.json").unlink()
    line = refusal("evaluate", "--checkpoint", checkpoint, "--data", data)
    assert line.endswith(f"has 3 classes, the dataset {data} 22")


@pytest.mark.parametrize("border", ["class", "ignore"])
def test_evaluate_takes_the_border_as_the_checkpoint_did(
    border: str, data: Path, tmp_path: Path
) -> None:
    (data / "classes.json").unlink()
    checkpoint = save(tmp_path, voc_classes(border=border))
    assert ("border" in evaluate(checkpoint, data, tmp_path)["per_class_iou"]) == (
        border == "class"
    )


def test_evaluate_refuses_a_missing_checkpoint(data: Path) -> None:
    line = refusal("evaluate", "--checkpoint", data / "no.pth", "--data", data)
    assert "no.pth" in line


def test_evaluate_refuses_a_missing_split(checkpoint: Path, data: Path) -> None:
    line = refusal("evaluate", "--checkpoint", checkpoint, "--data", data, "--split", "test")
    assert "test.txt: no such split; there are: train, val" in line


@pytest.mark.parametrize("option", ["--limit", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_evaluate_refuses_numbers_below_one(
    option: str, value: str, checkpoint: Path, data: Path
) -> None:
    outcome = run_command("evaluate", "--checkpoint", checkpoint, "--data", data, option, value)
    assert outcome.status in (1, 2)
    assert option in outcome.stderr


def test_a_figures_file_in_a_folder_that_is_not_there_is_one_line(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "nowhere" / "figures.json"
    line = refusal("evaluate", "--checkpoint", checkpoint, "--data", data, "--json", target)
    assert "nowhere" in line


# --- predict ----------------------------------------------------------------------------------


def test_predicted_masks_are_the_labels_that_evaluate_draws(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    evaluate(checkpoint, data, tmp_path, "--split", "train", "--samples", pictures)
    images = data / "JPEGImages"
    succeed("predict", "--checkpoint", checkpoint, "--images", images, "--out", masks)
    assert sorted(path.stem for path in masks.iterdir()) == ["a", "b", "c", "d"]
    assert sorted(path.stem for path in pictures.iterdir()) == ["a", "b", "c"]
    for name in "abc":
        with (
            Image.open(masks / f"{name}.png") as mask,
            Image.open(pictures / f"{name}.png") as sheet,
        ):
            ids = np.asarray(mask)
            predicted = np.asarray(mask.convert("RGB"))
            drawn = np.asarray(sheet)[:, 2 * (24 + GAP) :]
        assert (predicted == drawn).mean() > 0.99  # ties after rounding
        assert len(np.unique(ids)) > 1


def test_a_bad_image_is_named_the_others_are_done_and_the_status_is_1(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    images = data / "JPEGImages"
    (images / "b.png").write_text("no image")
    out = tmp_path / "masks"
    outcome = run_command("predict", "--checkpoint", checkpoint, "--images", images, "--out", out)
    assert outcome.status == 1
    assert "b.png: not an image" in outcome.log
    assert sorted(path.stem for path in out.iterdir()) == ["a", "c", "d"]


def test_masks_that_would_overwrite_each_other_are_refused(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    write_image(data, "a", noise(5, 5), suffix=".bmp")
    images = data / "JPEGImages"
    line = refusal(
        "predict", "--checkpoint", checkpoint, "--images", images, "--out", tmp_path / "out"
    )
    assert "a.bmp and a.png would both become a.png" in line


@pytest.mark.parametrize("folder", ["empty", "nothing"])
def test_a_folder_without_images_is_one_line(folder: str, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    images = tmp_path / folder
    out = tmp_path / "out"
    line = refusal("predict", "--checkpoint", checkpoint, "--images", images, "--out", out)
    assert f"--images {images}" in line


# --- check ------------------------------------------------------------------------------------


def test_check_passes_a_good_folder_and_shows_what_it_holds(data: Path) -> None:
    write_image(data, "b", noise(40, 50))
    write_mask(data, "b", np.zeros((40, 50), dtype=np.uint8))
    shown = succeed("check", "--data", data).words
    assert "split train: 3 images, 2 sizes, 24x20 to 50x40, 240 pixels ignored" in shown
    assert "split val: 1 image, 1 size, 24x20 to 24x20, 120 pixels ignored" in shown
    total = 2 * 360 + 2000
    assert f"ground 3 2,240 {2240 / total:.2%}" in shown
    assert f"red 2 240 {240 / total:.2%}" in shown
    assert shown.endswith("ready to train")


def break_everything(data: Path) -> list[str]:
    """One of each problem; returns words by which each is known."""
    write_mask(data, "a", np.full((20, 24), 9, dtype=np.uint8))
    (data / "SegmentationClass/b.png").unlink()
    write_mask(data, "c", quarters(24, 20))
    write_split(data, "val", ["d", "c"])
    write_split(data, "test", [])
    return [
        "a.png: unknown mask values 9 (480 pixels)",
        "b.png: the mask is missing",
        "c.png: the mask is 20x24, its image 24x20",
        "splits train and val share 1 image, c among them",
        "test.txt: the split is empty",
    ]


def test_check_lists_every_problem_and_fails(data: Path) -> None:
    words = break_everything(data)
    outcome = run_command("check", "--data", data)
    assert outcome.status == 1
    problems = [line for line in outcome.stdout.splitlines() if line.startswith("problem: ")]
    for word in words:
        assert any(word in line for line in problems), word
    assert len(problems) == 5  # c, in both splits, is told once
    assert "5 problems" in outcome.stdout
    assert "ready" not in outcome.stdout


def test_one_problem_is_not_several(data: Path) -> None:
    (data / "SegmentationClass/b.png").unlink()
    assert run_command("check", "--data", data).stdout.splitlines()[-1] == "1 problem"


def test_check_of_one_split_leaves_the_others_alone(data: Path) -> None:
    break_everything(data)
    write_split(data, "val", ["d"])
    assert "ready to train" in succeed("check", "--data", data, "--split", "val").stdout


def test_check_cuts_a_long_list_of_problems_short(data: Path) -> None:
    write_split(data, "train", [f"missing-{index}" for index in range(70)])
    outcome = run_command("check", "--data", data)
    assert outcome.status == 1
    assert outcome.stdout.count("problem: ") == 50
    assert "and 20 more problems" in outcome.stdout
    assert "70 problems" in outcome.stdout


@pytest.mark.parametrize("absent", ["train", "val"])
def test_check_fails_where_fit_would_miss_a_split(absent: str, data: Path) -> None:
    (data / f"ImageSets/Segmentation/{absent}.txt").unlink()
    outcome = run_command("check", "--data", data)
    assert outcome.status == 1
    assert f"{absent}.txt: no such split" in outcome.stdout


@pytest.mark.parametrize("value", ["0", "-1"])
def test_check_refuses_a_limit_below_one(value: str, data: Path) -> None:
    outcome = run_command("check", "--data", data, "--limit", value)
    assert outcome.status in (1, 2)
    assert "--limit" in outcome.stderr


@pytest.mark.parametrize("name", ["lane [solid]", "[bold]", "a[/]b", "a :b: c"])
def test_class_names_are_shown_as_they_are(name: str, data: Path) -> None:
    renamed = SegmentationClass(2, name, (0, 255, 0))
    write_classes(data, ClassSet((*THREE_CLASSES.classes[:2], renamed)))
    assert name in succeed("check", "--data", data).stdout


def test_check_writes_what_it_found_for_machines(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "check.json"
    succeed("check", "--data", data, "--json", target)
    found = json.loads(target.read_text())
    assert (found["ready"], found["problems"]) == (True, [])
    assert found["splits"]["train"]["sizes"] == [{"width": 24, "height": 20, "images": 3}]
    red = found["splits"]["train"]["classes"]["red"]
    assert red == {"images": 3, "pixels": 360, "share": pytest.approx(1 / 3)}
    assert found["near_duplicates"]["max_distance"] == 4
    break_everything(data)
    run_command("check", "--data", data, "--json", target, "--near-duplicates", -1)
    found = json.loads(target.read_text())
    assert not found["ready"]
    assert len(found["problems"]) == 5
    assert found["near_duplicates"] is None


def test_check_draws_what_it_found(data: Path, tmp_path: Path) -> None:
    write_image(data, "c", noise(20, 24, seed=1))  # b again
    succeed("check", "--data", data, "--pictures", tmp_path / "pictures")
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {
        "class-shares.png",
        "image-sizes.png",
        "samples-train.png",
        "samples-val.png",
        "near-duplicates-within.png",
    }


def test_check_lists_near_duplicates_without_failing(data: Path) -> None:
    write_image(data, "c", noise(20, 24, seed=1))
    shown = succeed("check", "--data", data).words
    assert "note: 1 pair of near-duplicates inside train" in shown
    assert "b and c, distance 0" in shown
    assert (
        "b and c, distance" not in succeed("check", "--data", data, "--near-duplicates", -1).words
    )


def test_check_looks_at_the_splits_that_fit_is_told_to_use(data: Path) -> None:
    write_split(data, "more", ["a", "d"])
    succeed("check", "--data", data)
    outcome = run_command("check", "--data", data, "--train-split", "more")
    assert outcome.status == 1
    assert "problem: splits more and val share 1 image, d among them" in outcome.stdout
