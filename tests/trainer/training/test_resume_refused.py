"""What --resume refuses, and what it may be asked for."""

import shutil
from pathlib import Path

import pytest

from tests.trainer.command_line import refusal
from tests.trainer.datasets import three_class_dataset
from tests.trainer.runs import SMALL, files, fit, rows
from tests.voc_folder import make_voc_folder


@pytest.fixture
def stopped(run_data: Path, tmp_path: Path) -> Path:
    """A run of one epoch under the report's recipe."""
    fit(run_data, tmp_path / "run", "--epochs", "1")
    return tmp_path / "run"


def resume(data: Path, out: Path, *options: object) -> str:
    """The line that refuses it; whatever the folder held is still there."""
    before = files(out)
    line = refusal(
        "fit", "--data", data, "--out", out, *SMALL, "--epochs", "1", "--resume", *options
    )
    assert files(out) == before
    return line


def test_resuming_with_other_options_names_them(stopped: Path, run_data: Path) -> None:
    line = resume(run_data, stopped, "--batch-size", "3", "--lr", "0.5", "--seed", "9")
    for words in ("--batch-size was 2, now 3", "--lr was 0.001, now 0.5", "--seed was 0, now 9"):
        assert words in line


def test_resuming_with_another_network_names_it(stopped: Path, run_data: Path) -> None:
    line = resume(run_data, stopped, "--arch", "unet_resnet50", "--base-channels", "8")
    assert "--arch was unet, now unet_resnet50" in line
    assert "--base-channels was 4, now 8" in line


def test_resuming_where_nothing_was_started_is_refused(run_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    line = refusal("fit", "--data", run_data, "--out", out, *SMALL, "--resume")
    assert "state.pt; start without --resume" in line


def test_resuming_from_a_damaged_state_is_refused(stopped: Path, run_data: Path) -> None:
    state = stopped / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    assert "state.pt cannot be read" in resume(run_data, stopped)


def test_resuming_from_a_checkpoint_put_in_place_of_the_state_is_refused(
    stopped: Path, run_data: Path
) -> None:
    shutil.copy(stopped / "checkpoints/last.pth", stopped / "state.pt")
    assert "state.pt" in resume(run_data, stopped)


def test_a_moved_dataset_can_be_resumed(stopped: Path, run_data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run_data, moved)
    fit(moved, stopped, "--epochs", "2", "--resume")
    assert len(rows(stopped)) == 2


def test_resuming_on_data_with_other_classes_is_refused(stopped: Path, tmp_path: Path) -> None:
    resume(three_class_dataset(tmp_path / "other"), stopped)


def test_resuming_on_other_labels_is_refused(stopped: Path, tmp_path: Path) -> None:
    """The manifest's fingerprint would name data that most of the steps have not seen."""
    other = make_voc_folder(tmp_path / "other", count=9, seed=1)
    assert "--data" in resume(other, stopped)
