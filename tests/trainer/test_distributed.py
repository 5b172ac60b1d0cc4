"""Several processes that together make the steps of one."""

import json
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.trainer.command_line import run_command, succeed
from tests.trainer.processes import signal_at, start_fit
from tests.trainer.runs import SMALL, files, fit, manifest, rows, weights
from tests.voc_folder import make_voc_folder
from trainer.config import FitConfig
from trainer.data.training_set import EpochBatches
from trainer.distributed import HOLD_BACK_S, Processes, first_speaks, join_processes
from trainer.recipe import RECIPES
from trainer.training import run
from trainer.training.prepare import build_network

CPU = torch.device("cpu")
EPOCHS = 7
# batch statistics are each process's own; without them the sums are those of one process
RECIPE: tuple[str, ...] = ("--recipe", "standard", "--freeze-batch-norm", "--epochs", str(EPOCHS))
RECIPE += ("--batch-size", "5", "--checkpoint-every", "4", "--samples", "3")


# --- one process alone ------------------------------------------------------------------------


def test_alone_every_operation_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    network, sums = nn.Linear(2, 1), torch.ones(3)
    with join_processes("cpu") as (alone, device):
        assert (alone, device) == (Processes(rank=0, world=1), CPU)
        assert alone.first
        assert alone.wrap(network, CPU) is network
        assert alone.total(sums) is sums
        assert alone.any(True, CPU)
        assert not alone.any(False, CPU)
        assert alone.gather("mine") == ["mine"]
        assert alone.together(lambda: "done", CPU) == alone.from_first(lambda: "done", CPU)
        alone.share_state(network)
    assert not torch.distributed.is_initialized()


def test_only_the_first_speaks() -> None:
    assert not Processes(rank=1, world=2).first


@pytest.mark.parametrize("frozen", [False, True])
def test_norms_that_are_frozen_are_not_said_to_differ(
    frozen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(RECIPES["standard"], freeze_batch_norm=frozen)
    config = FitConfig(data=Path("d"), arch="unet", out=Path("o"), recipe=recipe, base_channels=4)
    with caplog.at_level(logging.INFO):
        build_network(config, 3, Processes(rank=0, world=2), CPU)
    assert ("normalises its own share" in caplog.text) is not frozen


# --- two processes ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven images in `train`: batches of 5, 5 and 1, which are shares of 3 and 2, 3 and 2, and
    1 and none; three in `val`, shares of 2 and 1."""
    return make_voc_folder(tmp_path_factory.mktemp("data") / "voc", count=14, seed=2)


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "alone"
    fit(data, out, *RECIPE)
    return out


def require_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Sums taken in another order, and nothing else."""
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        difference = (ours[key] - value).double().norm()
        assert difference <= 1e-4 * value.double().norm(), key


def require_the_same_run(out: Path, alone: Path) -> None:
    require_close(weights(out / "checkpoints/last.pth"), weights(alone / "checkpoints/last.pth"))
    for ours, theirs in zip(rows(out), rows(alone), strict=True):
        assert (ours["epoch"], ours["step"]) == (theirs["epoch"], theirs["step"])
        for name in ("train_loss", "train_cross_entropy", "val_loss"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4), name
        for name in ("train_accuracy", "val_accuracy", "val_mean_iou"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=2e-3), name  # ties


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(data: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with start_fit(data, out, *RECIPE, processes=2) as process:
        said = process.communicate(timeout=600)[1]
    assert process.returncode == 0, said
    require_the_same_run(out, alone)

    assert "Warning" not in said
    # only one of them speaks and writes
    for words in (f"epoch 1/{EPOCHS}: train", f"epoch {EPOCHS}/{EPOCHS}: val", "metrics.csv"):
        assert said.count(words) == 1, said
    assert files(out).keys() == files(alone).keys()  # no temporary file of another, three pictures

    # each validation image was counted once
    expected = manifest(out / "checkpoints/last.pth")["metrics"]
    assert expected["images"] == 3
    target = tmp_path / "figures.json"
    checkpoint = out / "checkpoints/last.pth"
    succeed("evaluate", "--checkpoint", checkpoint, "--data", data, "--json", target)
    found = json.loads(target.read_text())
    for name in ("images", "pixel_accuracy", "mean_iou", "loss"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name


def stop_after(data: Path, out: Path, *, steps: int) -> None:
    """One process that gets Ctrl-C in a step."""
    count = 0

    def before(self: run.Run) -> None:
        nonlocal count
        count += 1
        if count == steps:
            signal.raise_signal(signal.SIGINT)
        honest(self)

    honest = run.Run._set_learning_rate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Run, "_set_learning_rate", before)
        outcome = run_command("fit", "--data", data, "--out", out, *SMALL, *RECIPE)
    assert outcome.status == 130


@pytest.mark.slow
def test_a_run_goes_on_with_more_processes_and_with_fewer(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    """One process until the middle of epoch 2, two until torchrun is stopped, one to the end."""
    out = tmp_path / "run"
    stop_after(data, out, steps=5)
    with start_fit(data, out, *RECIPE, "--resume", processes=2) as process:
        said = signal_at(process, f"epoch 4/{EPOCHS}: val", signal.SIGTERM)
    assert "resuming in epoch 2 after 2 batches" in said
    assert said.count("the same command with --resume goes on from here") == 1, said
    assert len(rows(out)) < EPOCHS
    step = torch.load(out / "state.pt", weights_only=True)["progress"]["step"]
    assert step >= 12  # of the step that was stopped after
    fit(data, out, *RECIPE, "--resume")
    require_the_same_run(out, alone)


# --- more processes than some of them have work for -------------------------------------------


def test_the_environment_of_a_single_worker_is_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torchrun with one process sets RANK and the rest too."""
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setitem(os.environ, name, value)
    with join_processes("auto") as (alone, _):
        assert alone.world == 1


# --- errors -----------------------------------------------------------------------------------


def break_an_image_of_the_second_process(data: Path) -> None:
    """One of its share of the second batch."""
    ids = (data / "ImageSets/Segmentation/train.txt").read_text().split()
    _, second, _ = EpochBatches(len(ids), 5, seed=0, rank=1, world=2)
    path = data / f"JPEGImages/{ids[second[0].image]}.jpg"
    path.write_bytes(path.read_bytes()[:-100])  # its header is whole


@pytest.mark.slow
def test_an_image_that_one_process_cannot_read_ends_all_in_one_line_and_no_step_is_lost(
    tmp_path: Path,
) -> None:
    data, out = make_voc_folder(tmp_path / "voc", count=14, seed=2), tmp_path / "run"
    break_an_image_of_the_second_process(data)
    with start_fit(data, out, *RECIPE, processes=2) as process:
        said = process.communicate(timeout=600)[1]
    assert said.count("error: ") == 1
    assert "the image data is broken" in said
    assert "[rank" not in said  # as torch begins the lines of a process's traceback
    assert torch.load(out / "state.pt", weights_only=True)["progress"]["step"] == 1


@pytest.mark.slow
def test_what_the_first_process_finds_before_training_ends_all_in_one_line(tmp_path: Path) -> None:
    data = make_voc_folder(tmp_path / "voc", count=14, seed=2)
    first = sorted((data / "SegmentationClass").iterdir())[0]
    Image.new("L", (64, 64), 77).save(first)
    with start_fit(data, tmp_path / "run", *RECIPE, processes=2) as process:
        said = process.communicate(timeout=600)[1]
    assert said.count("error: ") == 1
    assert first.name in said
    assert "[rank" not in said


@pytest.mark.slow
@pytest.mark.parametrize("option", [("--lr", "-1"), ("--epochs", "many")])
def test_a_wrong_option_is_named_once(option: tuple[str, str], data: Path, tmp_path: Path) -> None:
    with start_fit(data, tmp_path / "run", *RECIPE, *option, processes=2) as process:
        said = process.communicate(timeout=600)[1]
    assert said.count(option[0]) == 1, said


def test_a_process_alone_with_its_error_says_it_in_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)

    @first_speaks()
    def fail() -> None:
        sys.stderr.write("error: mine\n")
        assert capsys.readouterr().err == ""
        sys.exit(1)

    with pytest.raises(SystemExit):
        fail()
    assert waited == [HOLD_BACK_S]
    assert capsys.readouterr().err == "error: mine\n"
