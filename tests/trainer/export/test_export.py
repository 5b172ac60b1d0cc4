"""Exported files: they run alone, at any size, agree with the checkpoint, or do not exist."""

import json
import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from models import load_checkpoint, save_checkpoint
from models.classes import voc_classes
from models.manifest import InputSpec, Manifest, manifest_classes
from models.network import Forward
from tests.networks import manifest_for, random_images, small_network
from tests.trainer.command_line import refusal, succeed
from tests.trainer.datasets import three_class_dataset
from trainer.data.dataset import VocFolder
from trainer.export import formats
from trainer.export.images import CalibrationInputs
from trainer.progress import Reporter

ROOT = Path(__file__).parents[3]
NEEDS = {
    "torch": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "openvino-int8": ("onnx", "onnxscript", "openvino", "nncf"),
}
ARCHITECTURES = ("unet", "unet_resnet50", "unet_efficientnet_lite0")


def need(format_name: str) -> None:
    absent = [package for package in NEEDS[format_name] if find_spec(package) is None]
    if absent:
        pytest.skip(f"the format {format_name} needs {', '.join(absent)}")


def save(folder: Path, architecture: str = "unet") -> Path:
    """A narrow network of VOC's 22 classes, 64 x 96, under the name checkpoint.pth."""
    network = small_network(architecture, num_classes=22)
    content = manifest_for(network, architecture).model_copy(
        update={"classes": manifest_classes(voc_classes(border="class"))}
    )
    folder.mkdir(exist_ok=True)
    path = folder / "checkpoint.pth"
    save_checkpoint(path, network.state_dict(), Manifest.model_validate(content.model_dump()))
    return path


def export(checkpoint: Path, format_name: str, *options: object) -> Path:
    out = checkpoint.with_suffix(formats.FORMATS[format_name].suffix)
    arguments = ("--format", format_name, "--out", out)
    succeed("export", "--checkpoint", checkpoint, *arguments, *options)
    return out


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(out.with_name(f"{out.name}.json").read_text())
    return record


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("format_name", ["torch", "onnx", "openvino"])
def test_an_exported_network_takes_any_batch_and_size(
    architecture: str, format_name: str, tmp_path: Path
) -> None:
    need(format_name)
    checkpoint = save(tmp_path, architecture)
    out = export(checkpoint, format_name)
    forward = formats.FORMATS[format_name].load(out)
    network = load_checkpoint(checkpoint).network
    for shape in ((1, 3, 64, 96), (3, 3, 65, 79), (2, 3, 50, 130)):
        images = random_images(*shape)
        with torch.inference_mode():
            expected, actual = network(images), forward(images)
        assert actual.shape == expected.shape
        assert torch.allclose(actual, expected, atol=1e-3), shape


@pytest.mark.parametrize("format_name", NEEDS)
def test_the_record_says_what_was_exported_and_how_well_it_agrees(
    format_name: str, voc_folder: Path, tmp_path: Path
) -> None:
    need(format_name)
    checkpoint = save(tmp_path / "checkpoints")
    manifest = load_checkpoint(checkpoint).manifest
    # a network that was never trained has no margin between its classes for int8 to keep
    loose = ("--min-agreement", "0.2", "--max-iou-drop", "1") if "int8" in format_name else ()
    out = export(checkpoint, format_name, "--data", voc_folder, *loose)
    record = record_of(out)
    assert manifest.weights is not None
    assert record["exported_as"] == format_name
    assert record["checkpoint_sha256"] == manifest.weights.sha256
    assert [entry["name"] for entry in record["classes"]] == list(manifest.class_set().names)
    assert record["input"] == manifest.input.model_dump(mode="json")
    assert record["agreement"]["compared_on"] == "voc, split val"
    assert record["agreement"]["images"] == 2
    assert [size[0] for size in record["agreement"]["sizes_tried"]] == [2, 2, 1]
    assert record["agreement"]["mean_iou_checkpoint"] is not None
    assert {entry["file"] for entry in record["files"]} >= {out.name}
    expected = {"dataset": "voc", "split": "train", "images": 6, "inputs": 6} if loose else None
    assert record["calibration"] == expected
    # the manifest of the checkpoint beside it is still the checkpoint's
    assert load_checkpoint(checkpoint).manifest == manifest


def test_an_onnx_file_names_its_classes_and_its_open_sizes(tmp_path: Path) -> None:
    need("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    checkpoint = save(tmp_path)
    session = onnxruntime.InferenceSession(str(export(checkpoint, "onnx")))
    texts = session.get_modelmeta().custom_metadata_map
    assert json.loads(texts["classes"])[1]["name"] == "aeroplane"
    assert json.loads(texts["input"])["width"] == 96
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.get_outputs()[0].shape == ["batch", 22, "height", "width"]


def test_a_comparison_without_data_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        out = export(save(tmp_path), "torch")
    assert "without --data" in caplog.text
    agreement = record_of(out)["agreement"]
    assert agreement["compared_on"] == "noise"
    assert agreement["mean_iou_checkpoint"] is None


def broken(forward: Forward) -> Forward:
    """Every class takes the logits of the one before it."""

    def wrong(images: Tensor) -> Tensor:
        return forward(images).roll(1, dims=1)

    return wrong


def test_a_file_that_disagrees_is_refused_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    form = formats.FORMATS["torch"]
    changed = formats.ExportFormat(
        form.name, form.suffix, form.write, lambda path: broken(form.load(path)), form.thresholds
    )
    monkeypatch.setitem(formats.FORMATS, "torch", changed)
    out = tmp_path / "checkpoint.pt2"
    line = refusal("export", "--checkpoint", checkpoint, "--format", "torch", "--out", out)
    assert "pixel agreement is" in line
    assert "at least 0.999" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "coreml", "--out", "x.onnx"), ["--format coreml", "openvino-int8"]),
        (("--format", "onnx", "--out", "x.xml"), ["--out x.xml", ".onnx"]),
        (("--format", "openvino-int8", "--out", "x.xml"), ["needs --data"]),
    ],
)
def test_options_that_cannot_work_are_one_line(
    options: tuple[str, ...], words: list[str], tmp_path: Path
) -> None:
    line = refusal("export", "--checkpoint", save(tmp_path), *options)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("folder", ["x.pt2", "x.pt2.json"])
def test_a_folder_in_a_files_place_is_refused_before_the_work(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    out = tmp_path / "x.pt2"
    absent = tmp_path / "checkpoint.pth"
    line = refusal("export", "--checkpoint", absent, "--format", "torch", "--out", out)
    assert line == f"error: --out {out}: {tmp_path / folder} is a folder, not a file"
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_a_missing_package_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = tmp_path / "x.onnx"
    line = refusal("export", "--checkpoint", save(tmp_path), "--format", "onnx", "--out", out)
    assert "the package onnx is not installed (pip install '.[export]')" in line


def test_the_trainer_does_not_import_the_optional_packages() -> None:
    code = (
        "import sys, trainer.__main__; "
        "sys.exit(bool({'onnx', 'onnxscript', 'onnxruntime', 'openvino', 'nncf'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_tiles_are_calibrated_on_every_image(tmp_path: Path) -> None:
    """A few tiles of each, not all tiles of the first."""
    folder = VocFolder.open(three_class_dataset(tmp_path / "data", count=4, height=70, width=90))
    ids = folder.split("train")
    spec = InputSpec(mode="tile", height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3, stride=16)
    with Reporter(Console(quiet=True)) as reporter:
        inputs = CalibrationInputs(folder, ids, spec, reporter)
        made = list(inputs)
    assert len(made) == len(inputs) == 4 * len(ids)
    assert {tuple(each.shape) for each in made} == {(1, 3, 32, 32)}
    assert len({each.numpy().tobytes() for each in made}) == len(made)
