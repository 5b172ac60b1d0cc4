"""`fit` end to end: the run folder and the starting points."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models import build, load_checkpoint
from models.classes import voc_classes
from tests.trainer.command_line import refusal, run_command, succeed
from tests.trainer.datasets import three_class_dataset
from tests.trainer.runs import SMALL, equal_weights, files, fit, manifest, rows, weights
from trainer.pictures.samples import GAP, indexed_image

FIRST_WEIGHT = "convDown1.0.weight"


# --- the run folder ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(run_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of nine epochs."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    fit(run_data, out, "--epochs", "9", "--lr", "3e-3")
    return out


def test_the_run_folder_holds_what_it_should_and_nothing_else(finished: Path) -> None:
    names = ["last", "best", "epoch-004", "epoch-008", "epoch-009"]
    expected = {"audit.json", "config.json", "metrics.csv", "curves.png", "state.pt"}
    expected |= {f"checkpoints/{name}{suffix}" for name in names for suffix in (".pth", ".json")}
    expected |= {f"samples/epoch-{epoch:03d}/2007_000007.png" for epoch in (4, 8, 9)}
    assert files(finished).keys() == expected
    assert not [name for name in expected if ":" in name]


def test_metrics_have_one_row_an_epoch(finished: Path) -> None:
    table = rows(finished)
    assert [int(row["epoch"]) for row in table] == list(range(1, 10))
    assert [int(row["step"]) for row in table] == [4 * epoch for epoch in range(1, 10)]
    assert {row["learning_rate"] for row in table} == {"0.003"}
    assert all(0 <= float(row["val_mean_iou"]) <= 1 for row in table)
    assert all(0 <= float(row["train_accuracy"]) <= 1 for row in table)


def test_the_loss_falls(finished: Path) -> None:
    losses = [float(row["train_loss"]) for row in rows(finished)]
    assert losses[-1] < 0.85 * losses[0]


def test_the_curves_are_a_picture(finished: Path) -> None:
    with Image.open(finished / "curves.png") as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_a_sample_shows_image_label_and_result_in_class_colours(
    finished: Path, run_data: Path
) -> None:
    with Image.open(run_data / "SegmentationClass/2007_000007.png") as mask:
        labels = np.array(mask)
    labels[labels == 255] = 21
    with Image.open(finished / "samples/epoch-009/2007_000007.png") as opened:
        sheet = np.asarray(opened)
    height, width = labels.shape
    assert sheet.shape == (height, 3 * width + 2 * GAP, 3)
    classes = voc_classes(border="class")
    expected = indexed_image(torch.from_numpy(labels), classes).convert("RGB")
    start = width + GAP
    assert np.array_equal(sheet[:, start : start + width], np.asarray(expected))
    shown = {tuple(map(int, c)) for c in sheet[:, 2 * start :].reshape(-1, 3)}
    assert shown <= {entry.color for entry in classes.classes}


def test_the_configuration_is_kept(finished: Path, run_data: Path) -> None:
    content = json.loads((finished / "config.json").read_text())
    assert (content["data"], content["epochs"], content["base_channels"]) == (str(run_data), 9, 4)
    assert content["recipe"]["lr"] == 3e-3


@pytest.mark.parametrize("name", ["last", "best", "epoch-004", "epoch-009"])
def test_weights_load_into_a_plain_network_with_torch_alone(name: str, finished: Path) -> None:
    state = torch.load(finished / f"checkpoints/{name}.pth", weights_only=True)
    network = build("unet", num_classes=22, base_channels=4)
    network.load_state_dict(state)  # strict
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def test_the_last_checkpoint_is_that_of_the_last_epoch(finished: Path) -> None:
    folder = finished / "checkpoints"
    assert equal_weights(folder / "last.pth", folder / "epoch-009.pth")
    assert not equal_weights(folder / "last.pth", folder / "epoch-008.pth")
    assert manifest(folder / "last.pth")["training"]["epoch"] == 9


def test_the_best_checkpoint_is_the_first_of_the_highest_mean_iou(finished: Path) -> None:
    scores = [float(row["val_mean_iou"]) for row in rows(finished)]
    best = manifest(finished / "checkpoints/best.pth")
    assert best["training"]["epoch"] == scores.index(max(scores)) + 1
    assert best["metrics"]["mean_iou"] == pytest.approx(max(scores), rel=1e-5)


def test_a_manifest_says_where_the_weights_come_from(finished: Path) -> None:
    content = manifest(finished / "checkpoints/epoch-004.pth")
    assert content["architecture"] == "unet"
    assert content["arguments"] == {"num_classes": 22, "base_channels": 4, "in_channels": 3}
    assert len(content["classes"]) == 22
    assert content["input"]["height"] == content["input"]["width"] == 32
    record = content["training"]
    assert (record["epoch"], record["step"], record["images_seen"]) == (4, 16, 28)
    assert "--epochs 9" in record["command"]
    row = rows(finished)[3]
    assert content["metrics"]["pixel_accuracy"] == pytest.approx(
        float(row["val_accuracy"]), rel=1e-5
    )


def evaluated(checkpoint: Path, data: Path, folder: Path) -> dict[str, Any]:
    target = folder / "figures.json"
    succeed("evaluate", "--checkpoint", checkpoint, "--data", data, "--json", target)
    figures: dict[str, Any] = json.loads(target.read_text())
    return figures


@pytest.mark.parametrize("name", ["last", "best", "epoch-004"])
def test_a_manifests_metrics_are_what_evaluate_finds(
    name: str, finished: Path, run_data: Path, tmp_path: Path
) -> None:
    path = finished / f"checkpoints/{name}.pth"
    expected = manifest(path)["metrics"]
    figures = evaluated(path, run_data, tmp_path)
    assert figures.keys() >= expected.keys()
    for key in ("dataset", "split", "images"):
        assert figures[key] == expected[key]
    for key in ("pixel_accuracy", "mean_iou", "loss"):
        assert figures[key] == pytest.approx(expected[key], rel=1e-3)
    ours, theirs = figures["per_class_iou"], expected["per_class_iou"]
    assert [name for name in ours if ours[name] is None] == [n for n in theirs if theirs[n] is None]
    present = {name: value for name, value in theirs.items() if value is not None}
    assert {name: ours[name] for name in present} == pytest.approx(present, abs=1e-3)


def test_metrics_of_half_precision_weights_are_those_of_the_file(
    run_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    fit(run_data, out, "--epochs", "3", "--lr", "1e-2", "--weights-dtype", "bfloat16")
    path = out / "checkpoints/last.pth"
    content = manifest(path)
    assert content["weights"]["dtype"] == "bfloat16"
    assert weights(path)[FIRST_WEIGHT].dtype == torch.bfloat16
    figures = evaluated(path, run_data, tmp_path)
    assert figures["loss"] == pytest.approx(content["metrics"]["loss"], rel=1e-5)
    assert figures["pixel_accuracy"] == pytest.approx(
        content["metrics"]["pixel_accuracy"], rel=1e-5
    )


def test_a_second_run_into_the_folder_is_refused_and_nothing_is_lost(
    finished: Path, run_data: Path
) -> None:
    before = files(finished)
    line = refusal("fit", "--data", run_data, "--out", finished, *SMALL)
    assert str(finished) in line
    assert "--resume" in line
    assert files(finished) == before


def test_resuming_a_finished_run_changes_no_checkpoint(
    finished: Path, run_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    fit(run_data, out, "--epochs", "9", "--lr", "3e-3", "--resume")
    before, after = files(finished), files(out)
    for changed in ("config.json",):
        del before[changed], after[changed]
    assert before == after


def test_the_seed_decides_the_weights(run_data: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        fit(run_data, tmp_path / name, "--epochs", "1", "--seed", seed)
    one, again, two = (tmp_path / n / "checkpoints/last.pth" for n in ("one", "again", "two"))
    assert equal_weights(one, again)
    assert not equal_weights(one, two)


def test_a_limit_is_the_first_images_of_each_split(run_data: Path, tmp_path: Path) -> None:
    fit(run_data, tmp_path / "run", "--epochs", "1", "--limit", "1")
    content = manifest(tmp_path / "run/checkpoints/last.pth")
    assert content["metrics"]["images"] == 1
    assert content["training"]["images_seen"] == 1


@pytest.mark.parametrize("arch", ["unet_resnet50", "unet_efficientnet_lite0"])
def test_the_other_networks_are_trained_too(arch: str, run_data: Path, tmp_path: Path) -> None:
    fit(run_data, tmp_path / "run", "--arch", arch, "--image-size", "64", "--epochs", "1")
    checkpoint = load_checkpoint(tmp_path / "run/checkpoints/last.pth")
    assert checkpoint.manifest.architecture == arch
    assert checkpoint.manifest.input.stride == checkpoint.network.stride


def test_a_last_batch_of_one_image_at_the_smallest_size_trains_or_is_refused_by_name(
    run_data: Path, tmp_path: Path
) -> None:
    """At stride 32 a 32-pixel image is one pixel: batch norm has one value a channel."""
    options = ("--arch", "unet_efficientnet_lite0", "--image-size", "32", "--epochs", "1")
    outcome = run_command("fit", "--data", run_data, "--out", tmp_path / "run", *SMALL, *options)
    assert outcome.status == 0 or outcome.stderr.startswith("error: --image-size 32: ")


# --- starting points --------------------------------------------------------------------------


def test_init_starts_from_the_checkpoints_weights(
    finished: Path, run_data: Path, tmp_path: Path
) -> None:
    start = finished / "checkpoints/last.pth"
    fit(run_data, tmp_path / "run", "--epochs", "1", "--init", start, "--lr", "1e-12", "--seed", 5)
    before, after = weights(start), weights(tmp_path / "run/checkpoints/last.pth")
    for key, value in before.items():
        if "running" not in key and "tracked" not in key:
            torch.testing.assert_close(after[key], value, atol=1e-9, rtol=0)
    fresh = float(rows(finished)[0]["train_loss"])
    assert float(rows(tmp_path / "run")[0]["train_loss"]) < fresh


def test_init_may_have_seen_other_image_sizes(
    finished: Path, run_data: Path, tmp_path: Path
) -> None:
    start = finished / "checkpoints/last.pth"
    fit(run_data, tmp_path / "run", "--epochs", "1", "--init", start, "--image-size", "48")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--border", "ignore"), ["22 classes", "21", "--border"]),
        (("--arch", "unet_resnet50"), ["--init", "unet_resnet50"]),
        (("--base-channels", "8"), ["--init", "convDown1.0.weight"]),
    ],
    ids=["classes", "architecture", "width"],
)
def test_init_from_something_else_is_refused(
    options: tuple[str, ...], words: list[str], finished: Path, run_data: Path, tmp_path: Path
) -> None:
    start = finished / "checkpoints/last.pth"
    out = tmp_path / "run"
    line = refusal("fit", "--data", run_data, "--out", out, *SMALL, "--init", start, *options)
    assert all(word in line for word in words), line
    assert not (out / "checkpoints").exists()


def test_init_for_classes_of_other_names_is_refused(finished: Path, tmp_path: Path) -> None:
    root = three_class_dataset(tmp_path / "data")
    start = finished / "checkpoints/last.pth"
    line = refusal("fit", "--data", root, "--out", tmp_path / "run", *SMALL, "--init", start)
    assert "22 classes" in line


def test_init_from_a_missing_file_is_refused(run_data: Path, tmp_path: Path) -> None:
    start = tmp_path / "nothing.pth"
    line = refusal("fit", "--data", run_data, "--out", tmp_path / "run", *SMALL, "--init", start)
    assert "nothing.pth" in line


def test_imagenet_weights_are_where_the_encoder_starts(
    imagenet_weights: Path, run_data: Path, tmp_path: Path
) -> None:
    network = ("--arch", "unet_efficientnet_lite0", "--image-size", "64")
    start = ("--encoder-weights", "imagenet", "--lr", "1e-12", "--limit", "2", "--epochs", "1")
    fit(run_data, tmp_path / "run", *network, *start)
    published = torch.load(imagenet_weights, weights_only=True)
    after = weights(tmp_path / "run/checkpoints/last.pth")
    for key in ("_conv_stem.weight", "_blocks.7._depthwise_conv.weight"):
        torch.testing.assert_close(after[f"encoder.{key}"], published[key], atol=1e-9, rtol=0)


def test_encoder_weights_for_another_network_are_refused(run_data: Path, tmp_path: Path) -> None:
    options = ("--encoder-weights", "imagenet")
    line = refusal("fit", "--data", run_data, "--out", tmp_path / "run", *SMALL, *options)
    assert "--encoder-weights imagenet: this network has no pretrained encoder" in line
