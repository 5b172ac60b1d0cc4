"""The folder that keeps a run, and who writes into it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.networks import manifest_for, small_network
from tests.trainer.datasets import three_class_dataset
from tests.trainer.runs import files
from trainer.config import FitConfig
from trainer.data.dataset import VocFolder
from trainer.errors import ConfigError
from trainer.recipe import RECIPES
from trainer.training.history import EpochRecord
from trainer.training.run_folder import Picture, RunFolder, saved_config

RECORD = EpochRecord(1, 5, 1e-3, 0.1, 0.2, 0.3, None, None, None)


@pytest.fixture
def folder(tmp_path: Path) -> VocFolder:
    return VocFolder.open(three_class_dataset(tmp_path / "data", count=3))


def config(path: Path, **options: Any) -> FitConfig:
    return FitConfig(
        data=Path("data"), arch="unet", out=path, recipe=RECIPES["standard"], **options
    )


def write_everything(kept: RunFolder, folder: VocFolder) -> None:
    network = small_network("unet")
    labels = folder.read_labels("a")
    kept.write_config(config(kept.path))
    (kept.path / "checkpoints").mkdir(parents=True, exist_ok=True)
    manifest = manifest_for(network, "unet")
    kept.save_checkpoints(["last", "best"], network.state_dict(), manifest, config(kept.path))
    kept.write_history([RECORD], tensorboard=False)
    kept.save_pictures(4, [Picture("a", labels, torch.zeros_like(labels))], folder)


def test_what_is_written_has_its_place(folder: VocFolder, tmp_path: Path) -> None:
    write_everything(RunFolder(tmp_path / "runs" / "one"), folder)
    checkpoints = {f"checkpoints/{n}{s}" for n in ("last", "best") for s in (".pth", ".json")}
    others = {"config.json", "metrics.csv", "curves.png", "samples/epoch-004/a.png"}
    assert files(tmp_path / "runs" / "one").keys() == checkpoints | others


def test_a_process_that_does_not_write_leaves_nothing(folder: VocFolder, tmp_path: Path) -> None:
    write_everything(RunFolder(tmp_path / "run", writes=False), folder)
    assert files(tmp_path / "run") == {}


def test_no_name_holds_a_colon(folder: VocFolder, tmp_path: Path) -> None:
    labels = folder.read_labels("a")
    image = folder.root / "JPEGImages/a.png"
    (folder.root / "JPEGImages/12:30.png").write_bytes(image.read_bytes())
    picture = Picture("12:30", labels, labels)
    RunFolder(tmp_path / "run").save_pictures(1, [picture], folder)
    assert files(tmp_path / "run").keys() == {"samples/epoch-001/12%3A30.png"}


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    kept = RunFolder(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    kept.require_unused()
    kept.state_path.write_bytes(b"state")
    with pytest.raises(ConfigError, match=r"--out .*: already holds a run; .* --resume"):
        kept.require_unused()


def test_the_configuration_comes_back_out_of_a_state(tmp_path: Path) -> None:
    made = config(tmp_path, image_size="64x96")
    content = saved_config({"config": made.to_json(), "step": 3})
    assert content.image_size == "64x96"
    assert made.differences(json.loads(content.to_json())) == []
