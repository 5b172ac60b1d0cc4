"""Where a checkpoint came from."""

import shlex
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch

from models.manifest import InputSpec
from tests.trainer.datasets import THREE_CLASSES
from trainer.config import FitConfig
from trainer.recipe import RECIPES
from trainer.training.provenance import command_line, describe_checkpoint, library_versions, now
from trainer.training.state import Progress

SPEC = InputSpec(height=32, width=32, mean=(0.5,) * 3, std=(0.5,) * 3, stride=16)


def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["fit", "--data", "my data/set", "--out", "it's"]
    monkeypatch.setattr(sys, "argv", ["/x/trainer/__main__.py", *arguments])
    assert shlex.split(command_line()) == ["python", "-m", "trainer", *arguments]


def test_the_command_of_several_processes_starts_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/trainer/__main__.py", "fit"])
    for name, value in {
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    assert command_line() == "torchrun --nproc-per-node 4 --nnodes 2 -m trainer fit"


def test_versions_are_those_of_the_libraries_in_use() -> None:
    versions = library_versions()
    assert str(torch.__version__).startswith(versions["torch"])  # "+cpu" may follow
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"numpy", "pillow", "torchvision"} <= versions.keys()


def test_the_time_says_its_zone() -> None:
    assert datetime.fromisoformat(now()).utcoffset() is not None


def test_the_manifest_tells_the_whole_story() -> None:
    config = FitConfig(
        data=Path("data"),
        arch="unet",
        out=Path("run"),
        recipe=RECIPES["report"],
        base_channels=8,
        seed=5,
    )
    progress = Progress(epoch=3, step=21, started="then", command="python -m trainer fit")
    manifest = describe_checkpoint(
        config,
        progress,
        class_set=THREE_CLASSES,
        spec=SPEC,
        fingerprint="f00d",
        images_per_epoch=13,
        metrics=None,
    )
    assert manifest.architecture == "unet"
    assert manifest.arguments.model_dump() == {
        "num_classes": 3,
        "base_channels": 8,
        "in_channels": 3,
    }
    assert manifest.class_set() == THREE_CLASSES
    assert manifest.input == SPEC
    record = manifest.training
    assert record is not None
    assert (record.epoch, record.step, record.seed) == (3, 21, 5)
    assert (record.dataset_fingerprint, record.images_seen) == ("f00d", 39)
    assert (record.started, record.command) == ("then", "python -m trainer fit")
