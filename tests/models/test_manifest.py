"""The manifest beside a checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models import CheckpointError, Manifest
from models.classes import voc_classes
from models.manifest import (
    MAX_MANIFEST_BYTES,
    InputSpec,
    Metrics,
    manifest_classes,
    read_manifest,
)
from tests.networks import manifest_for, small_network


@pytest.fixture
def content() -> dict[str, Any]:
    """A valid manifest as the JSON holds it."""
    manifest = manifest_for(small_network("unet", num_classes=3), "unet")
    loaded: dict[str, Any] = json.loads(manifest.model_dump_json())
    loaded["weights"] = {"file": "x.pth", "sha256": "0" * 64, "bytes": 10, "dtype": "float32"}
    return loaded


def write(folder: Path, content: object) -> Path:
    path = folder / "x.json"
    path.write_text(json.dumps(content))
    return path


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    manifest = manifest_for(small_network("unet"), "unet").model_copy(
        update={
            "metrics": Metrics(
                dataset="VOC2012",
                split="val",
                images=87,
                pixel_accuracy=0.875,
                mean_iou=0.5,
                per_class_iou={"thing 0": 0.25, "thing 1": None},
                loss=0.125,
            )
        }
    )
    path = tmp_path / "x.json"
    path.write_text(manifest.model_dump_json())
    assert read_manifest(path) == manifest


def test_the_class_set_of_a_manifest_is_the_one_it_was_made_of() -> None:
    classes = voc_classes(border="class")
    network = small_network("unet", num_classes=22)
    manifest = manifest_for(network, "unet").model_copy(
        update={"classes": manifest_classes(classes)}
    )
    assert manifest.class_set() == classes


def test_the_fields_are_those_of_the_contract(content: dict[str, Any]) -> None:
    assert set(content) == {
        "format",
        "name",
        "architecture",
        "arguments",
        "classes",
        "ignore_index",
        "input",
        "metrics",
        "training",
        "weights",
    }
    fields = {"mode", "height", "width", "overlap", "mean", "std", "stride"}
    assert set(content["input"]) == fields
    assert content["classes"][1] == {"id": 1, "name": "thing 1", "color": [128, 0, 0]}
    assert content["format"] == 1


def test_metrics_training_and_weights_may_be_absent(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    for field in ("metrics", "training", "weights"):
        content.pop(field)
    manifest = read_manifest(write(tmp_path, content))
    assert manifest.metrics is None
    assert manifest.training is None
    assert manifest.weights is None


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path, content: dict[str, Any]) -> None:
    content["licence"] = "CC0"
    assert read_manifest(write(tmp_path, content)).architecture == "unet"


@pytest.mark.parametrize("field", ["name", "architecture", "arguments", "classes", "input"])
def test_a_missing_field_is_named_with_the_file(
    tmp_path: Path, content: dict[str, Any], field: str
) -> None:
    del content[field]
    with pytest.raises(CheckpointError, match=rf"x\.json: {field}: Field required"):
        read_manifest(write(tmp_path, content))


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (["format"], 2, r"x\.json: format: "),
        (["arguments", "num_classes"], 4, "3 classes are named, num_classes is 4"),
        (["arguments", "num_classes"], 0, r"arguments\.num_classes"),
        (["arguments", "base_channels"], -1, r"arguments\.base_channels"),
        (["classes", 2, "id"], 1, r"ids must be 0\.\.2"),
        (["classes", 2, "id"], 300, r"classes\.2\.id"),
        (["classes", 2, "color"], [0, 0, 256], r"classes\.2\.color\.2"),
        (["classes", 2, "color"], [128, 0, 0], r"share the colour"),
        (["classes", 2, "name"], "thing 0", r"share the name 'thing 0'"),
        (["ignore_index"], 1, "ignore_index 1"),
        (["input", "mode"], "stretch", r"input\.mode"),
        (["input", "height"], 0, r"input\.height"),
        (["input", "width"], 1_000_000, r"input\.width"),
        (["input", "overlap"], -0.1, r"input\.overlap"),
        (["input", "overlap"], 0.75, r"input\.overlap"),
        (["input", "mean"], [0.5, 0.5], "mean has 2 channels, std 3"),
        (["input", "std"], [0.5, 0.0, 0.5], r"input\.std\.1"),
        (["arguments", "in_channels"], 4, "input.mean has 3 values, in_channels is 4"),
        (["weights", "sha256"], "short", r"weights\.sha256"),
        (["weights", "dtype"], "int8", r"weights\.dtype"),
        (["training", "epoch"], "four", r"training\.epoch"),
    ],
)
def test_a_bad_value_is_named_with_the_file(
    tmp_path: Path, content: dict[str, Any], keys: list[str | int], value: object, complaint: str
) -> None:
    part: Any = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    with pytest.raises(CheckpointError, match=complaint) as caught:
        read_manifest(write(tmp_path, content))
    assert str(caught.value).startswith("x.json: ")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xff", b"PK\x03\x04"])
def test_a_file_that_is_not_a_json_object_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(CheckpointError, match=r"^x\.json: "):
        read_manifest(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.json: No such file"):
        read_manifest(tmp_path / "absent.json")


def test_a_file_too_large_to_be_a_manifest_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(CheckpointError, match=r"x\.json: larger than"):
        read_manifest(path)


def test_a_manifest_cannot_be_changed_in_place() -> None:
    manifest = manifest_for(small_network("unet"), "unet")
    with pytest.raises(ValidationError, match="frozen"):
        manifest.name = "other"


def test_an_input_has_as_many_means_as_deviations() -> None:
    with pytest.raises(ValidationError, match="mean has 1 channels, std 2"):
        InputSpec(mean=(0.5,), std=(0.5, 0.5), stride=8)


def test_the_network_input_is_256_square_resized_unless_said() -> None:
    spec = InputSpec(mean=(0.5,), std=(0.5,), stride=8)
    assert (spec.mode, spec.height, spec.width) == ("resize", 256, 256)


def test_tiles_overlap_by_a_quarter_unless_said(tmp_path: Path, content: dict[str, Any]) -> None:
    content["input"]["mode"] = "tile"
    content["input"].pop("overlap")
    spec = read_manifest(write(tmp_path, content)).input
    assert (spec.mode, spec.overlap) == ("tile", 0.25)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_normalisation_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        InputSpec(mean=(value,), std=(1.0,), stride=8)
    with pytest.raises(ValidationError, match="finite"):
        InputSpec(mean=(0.0,), std=(value,), stride=8)


def test_an_infinite_loss_does_not_break_the_manifest(tmp_path: Path) -> None:
    """JSON has no infinity: what diverged is read back as "no figure"."""
    metrics = Metrics(
        dataset="d",
        split="val",
        images=1,
        pixel_accuracy=0.5,
        mean_iou=None,
        per_class_iou={},
        loss=float("inf"),
    )
    manifest = manifest_for(small_network("unet"), "unet").model_copy(update={"metrics": metrics})
    path = tmp_path / "x.json"
    path.write_text(manifest.model_dump_json())
    read = read_manifest(path)
    assert isinstance(read, Manifest)
    assert read.metrics is not None
    assert read.metrics.loss is None
