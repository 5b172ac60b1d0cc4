"""Going on after every kind of stop."""

import errno
import io
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from models import build
from models.network import SegmentationNetwork
from tests.trainer.command_line import refusal, run_command
from tests.trainer.processes import signal_at, start_fit
from tests.trainer.runs import SMALL, equal_weights, fit, manifest, rows
from trainer.losses import BatchLoss, SegmentationLoss
from trainer.training import prepare, run

EPOCHS = 4
RECIPE: tuple[str, ...] = ("--recipe", "standard", "--precision", "bfloat16")
RECIPE += ("--epochs", str(EPOCHS), "--checkpoint-every", "2")


@pytest.fixture(scope="module")
def unbroken(run_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs of random crops, AdamW, a falling rate and averaged weights, without a stop."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    fit(run_data, out, *RECIPE)
    return out


def require_the_same_run(out: Path, unbroken: Path) -> None:
    """Bit by bit the same weights, averaged and not, figures and pictures."""
    for name in ("last", "best", "epoch-002", "epoch-004"):
        ours, theirs = out / f"checkpoints/{name}.pth", unbroken / f"checkpoints/{name}.pth"
        assert equal_weights(ours, theirs), name
        assert manifest(ours)["metrics"] == manifest(theirs)["metrics"]
        assert manifest(ours)["training"]["step"] == manifest(theirs)["training"]["step"]
    assert (out / "metrics.csv").read_bytes() == (unbroken / "metrics.csv").read_bytes()
    samples = "samples/epoch-004/2007_000007.png"
    assert (out / samples).read_bytes() == (unbroken / samples).read_bytes()
    mine, whole = state(out), state(unbroken)
    for part in ("network", "averaged"):
        assert mine[part].keys() == whole[part].keys()
        assert all(torch.equal(mine[part][key], whole[part][key]) for key in mine[part]), part


def state(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    return content


def go_on(data: Path, out: Path) -> None:
    """What a person would type: --resume, or from the start when there is nothing to go on from."""
    fit(data, out, *RECIPE, *(["--resume"] if (out / "state.pt").exists() else []))


class PowerCutError(BaseException):
    """The machine went off; no handler of the trainer may catch it."""


def cut_power_after(patch: pytest.MonkeyPatch, renames: int) -> None:
    """The next rename after so many never happens."""
    done = 0
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        nonlocal done
        if done == renames:
            raise PowerCutError
        done += 1
        return rename(self, target)

    patch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("renames", [0, 2, 5, 9, 17, 24, 31])
def test_power_cut_while_any_file_is_written_loses_nothing(
    renames: int, run_data: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STATE_EVERY_STEPS", 3)
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        cut_power_after(patch, renames)
        with pytest.raises(PowerCutError):
            fit(run_data, out, *RECIPE)
    go_on(run_data, out)
    require_the_same_run(out, unbroken)


def test_power_cut_again_and_again_loses_nothing(
    run_data: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STATE_EVERY_STEPS", 1)
    out = tmp_path / "run"
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            cut_power_after(patch, 9)
            with pytest.raises(PowerCutError):
                go_on(run_data, out)
    go_on(run_data, out)
    require_the_same_run(out, unbroken)


@pytest.mark.parametrize("step", [1, 6, 8, 15])
def test_a_kill_between_the_weights_and_their_average_loses_nothing(
    step: int, run_data: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STATE_EVERY_STEPS", 3)
    honest, done = AveragedModel.update_parameters, 0

    def update(self: AveragedModel, network: torch.nn.Module) -> None:
        nonlocal done
        done += 1
        if done == step:
            raise PowerCutError
        honest(self, network)

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AveragedModel, "update_parameters", update)
        with pytest.raises(PowerCutError):
            fit(run_data, out, *RECIPE)
    assert state(out)["progress"]["step"] < step
    go_on(run_data, out)
    require_the_same_run(out, unbroken)


def fill_disk_after(patch: pytest.MonkeyPatch, size: int) -> None:
    """Files written atomically get so many bytes, all together, and then no more."""
    left = size

    class FullDisk(io.FileIO):
        def write(self, content: Any) -> int:
            nonlocal left
            left -= len(content)
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    patch.setattr(os, "fdopen", lambda number, mode: io.BufferedWriter(FullDisk(number, mode)))


@pytest.mark.parametrize(
    ("size", "file"), [(300_000, "state.pt"), (1_200_000, "last.pth"), (6_000_000, "")]
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    size: int, file: str, run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        fill_disk_after(patch, size)
        line = refusal("fit", "--data", run_data, "--out", out, *SMALL, *RECIPE)
    assert "No space left on device" in line
    assert file in line
    assert not list(out.rglob("*.tmp"))
    go_on(run_data, out)
    require_the_same_run(out, unbroken)


def break_images_before(patch: pytest.MonkeyPatch, step: int, data: Path) -> None:
    """Every photograph is overwritten in the middle of a step."""
    honest, done = run.Run._set_learning_rate, 0

    def before(self: run.Run) -> None:
        nonlocal done
        done += 1
        if done == step:
            for path in (data / "JPEGImages").iterdir():
                path.write_bytes(b"no image")
        honest(self)

    patch.setattr(run.Run, "_set_learning_rate", before)


@pytest.mark.parametrize(("step", "where"), [(6, "training"), (8, "validation")])
def test_a_broken_image_can_be_mended_and_no_step_is_lost(
    step: int, where: str, run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    data = tmp_path / "voc"
    shutil.copytree(run_data, data)
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        break_images_before(patch, step, data)
        line = refusal("fit", "--data", data, "--out", out, *SMALL, *RECIPE)
    assert "JPEGImages/2007_00000" in line, where
    assert state(out)["progress"]["step"] == step
    shutil.copytree(run_data, data, dirs_exist_ok=True)
    fit(data, out, *RECIPE, "--resume")
    require_the_same_run(out, unbroken)


def build_with_hook(hook: Callable[[], None]) -> Callable[..., SegmentationNetwork]:
    """`build`, and `hook` is called in the middle of every forward pass."""

    def build_hooked(*arguments: Any, **options: Any) -> SegmentationNetwork:
        network = build(*arguments, **options)

        def call(*_: object) -> None:
            hook()

        network.get_submodule("convUp3").register_forward_hook(call)
        return network

    return build_hooked


@pytest.mark.parametrize(
    ("forward", "where"),
    [(2, "in epoch 1"), (4, "in its last step"), (5, "validating"), (9, "end of epoch 2")],
)
def test_ctrl_c_in_the_middle_of_a_step_can_be_resumed_exactly(
    forward: int,
    where: str,
    run_data: Path,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes = 0

    def interrupt() -> None:
        nonlocal passes
        passes += 1
        if passes == forward:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "build", build_with_hook(interrupt))
        outcome = run_command("fit", "--data", run_data, "--out", out, *SMALL, *RECIPE)
    assert outcome.status == 130, where
    assert "--resume" in outcome.log
    assert passes <= forward + 1
    fit(run_data, out, *RECIPE, "--resume")
    require_the_same_run(out, unbroken)


def test_a_run_that_diverges_stops_in_one_line_and_keeps_its_last_state(
    run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    honest, calls = SegmentationLoss.__call__, 0

    def diverge(self: SegmentationLoss, logits: Tensor, target: Tensor) -> BatchLoss:
        nonlocal calls
        calls += 1
        batch = honest(self, logits, target)
        return replace(batch, objective=batch.objective * float("nan")) if calls == 7 else batch

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationLoss, "__call__", diverge)
        line = refusal("fit", "--data", run_data, "--out", out, *SMALL, *RECIPE)
    assert line.startswith("error: the loss became nan; the state saved before is kept: ")
    fit(run_data, out, *RECIPE, "--resume")
    require_the_same_run(out, unbroken)


def test_a_killed_worker_is_one_line_and_no_step_is_lost(
    run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    """As the system does it when memory runs out; in the middle of a step, from the run's side."""
    honest, done = run.Run._set_learning_rate, 0

    def before(self: run.Run) -> None:
        nonlocal done
        done += 1
        if done == 6:
            for process in active_children():
                process.kill()
                process.join()
        honest(self)

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Run, "_set_learning_rate", before)
        options = (*SMALL, *RECIPE, "--workers", "1")
        outcome = run_command("fit", "--data", run_data, "--out", out, *options)
    assert outcome.status == 1
    assert outcome.stderr.startswith("error: a process that prepares images was killed")
    assert "fewer --workers or a smaller --batch-size" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert "the same command with --resume goes on from here" in outcome.log
    assert state(out)["progress"]["step"] == done
    fit(run_data, out, *RECIPE, "--resume")
    require_the_same_run(out, unbroken)


def test_worker_processes_change_nothing(run_data: Path, unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(run_data, out, *RECIPE, "--workers", "2")
    require_the_same_run(out, unbroken)


def test_more_epochs_under_a_constant_rate_are_one_longer_run(
    run_data: Path, tmp_path: Path
) -> None:
    fit(run_data, tmp_path / "long", "--epochs", "3")
    fit(run_data, tmp_path / "short", "--epochs", "1")
    fit(run_data, tmp_path / "short", "--epochs", "3", "--resume")
    last = "checkpoints/last.pth"
    assert equal_weights(tmp_path / "long" / last, tmp_path / "short" / last)
    assert rows(tmp_path / "long") == rows(tmp_path / "short")


# --- real signals to a real process -----------------------------------------------------------


@pytest.mark.slow
def test_a_killed_process_goes_on_exactly_where_it_was(
    run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with start_fit(run_data, out, *RECIPE) as process:
        signal_at(process, f"epoch 1/{EPOCHS}: val", signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    # it may have been killed before the first state was whole
    options = ["--resume"] if (out / "state.pt").exists() else []
    with start_fit(run_data, out, *RECIPE, *options) as process:
        signal_at(process, f"epoch 2/{EPOCHS}: train", signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    go_on(run_data, out)
    require_the_same_run(out, unbroken)


@pytest.mark.slow
def test_ctrl_c_stops_a_process_with_a_hint_and_no_traceback(
    run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with start_fit(run_data, out, *RECIPE) as process:
        said = signal_at(process, f"epoch 1/{EPOCHS}: train", signal.SIGINT)
    assert process.returncode == 130, said
    assert "the same command with --resume goes on from here" in said
    assert "Traceback" not in said
    fit(run_data, out, *RECIPE, "--resume")
    require_the_same_run(out, unbroken)


def test_the_hook_of_these_tests_is_called_in_training(run_data: Path, tmp_path: Path) -> None:
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "build", build_with_hook(lambda: calls.append(1)))
        fit(run_data, tmp_path / "run", "--epochs", "1")
    assert len(calls) == 4 + 1  # four steps and one batch of validation
