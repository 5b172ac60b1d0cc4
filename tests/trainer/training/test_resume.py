"""Going on after every kind of stop."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from models import build
from models.network import SegmentationNetwork
from tests.trainer.command_line import refusal, run_command
from tests.trainer.datasets import three_class_dataset
from tests.trainer.runs import SMALL, equal_weights, files, fit, manifest, rows
from tests.voc_folder import make_voc_folder
from trainer.training import loop, run

EPOCHS = 4
RECIPE: tuple[str, ...] = ("--recipe", "finetune", "--warmup-steps", "2")
RECIPE += ("--epochs", str(EPOCHS), "--checkpoint-every", "2")


@pytest.fixture(scope="module")
def unbroken(run_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs of random crops, AdamW and a falling rate, without a stop."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    fit(run_data, out, *RECIPE)
    return out


def require_the_same_run(out: Path, unbroken: Path) -> None:
    """Bit by bit the same weights, figures and pictures."""
    for name in ("last", "best", "epoch-002", "epoch-004"):
        ours, theirs = out / f"checkpoints/{name}.pth", unbroken / f"checkpoints/{name}.pth"
        assert equal_weights(ours, theirs), name
        assert manifest(ours)["metrics"] == manifest(theirs)["metrics"]
        assert manifest(ours)["training"]["step"] == manifest(theirs)["training"]["step"]
    assert (out / "metrics.csv").read_bytes() == (unbroken / "metrics.csv").read_bytes()
    samples = "samples/epoch-004/2007_000007.png"
    assert (out / samples).read_bytes() == (unbroken / samples).read_bytes()


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
        patch.setattr(run, "build", build_with_hook(interrupt))
        outcome = run_command("fit", "--data", run_data, "--out", out, *SMALL, *RECIPE)
    assert outcome.status == 130, where
    assert "--resume" in outcome.log
    assert passes <= forward + 1
    fit(run_data, out, *RECIPE, "--resume")
    require_the_same_run(out, unbroken)


def test_a_run_that_diverges_stops_in_one_line_and_keeps_its_last_state(
    run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    honest = loop.pixel_loss
    calls = 0

    def diverge(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        nonlocal calls
        calls += 1
        loss = honest(logits, target, ignore_index)
        return loss * float("nan") if calls == 7 else loss

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "pixel_loss", diverge)
        line = refusal("fit", "--data", run_data, "--out", out, *SMALL, *RECIPE)
    assert line == "error: the loss became nan; try a lower --lr"
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


# --- real signals to a real process -----------------------------------------------------------


def start(data: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "trainer", "fit", "--data", str(data), "--out", str(out)]
    return subprocess.Popen(
        [*command, *SMALL, *RECIPE, *options],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as in these tests: sums in the same order
        stderr=subprocess.PIPE,
        text=True,
    )


def signal_at(process: subprocess.Popen[str], words: str, number: signal.Signals) -> str:
    """Sends the signal when a line with `words` appears; returns all that stood on stderr."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            process.send_signal(number)
            break
    rest = process.communicate(timeout=600)[1]
    return "".join(lines) + rest


@pytest.mark.slow
def test_a_killed_process_goes_on_exactly_where_it_was(
    run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with start(run_data, out) as process:
        signal_at(process, f"epoch 1/{EPOCHS}: val", signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    # it may have been killed before the first state was whole
    options = ["--resume"] if (out / "state.pt").exists() else []
    with start(run_data, out, *options) as process:
        signal_at(process, f"epoch 2/{EPOCHS}: train", signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    go_on(run_data, out)
    require_the_same_run(out, unbroken)


@pytest.mark.slow
def test_ctrl_c_stops_a_process_with_a_hint_and_no_traceback(
    run_data: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with start(run_data, out) as process:
        said = signal_at(process, f"epoch 1/{EPOCHS}: train", signal.SIGINT)
    assert process.returncode == 130, said
    assert "the same command with --resume goes on from here" in said
    assert "Traceback" not in said
    fit(run_data, out, *RECIPE, "--resume")
    require_the_same_run(out, unbroken)


def test_the_hook_of_these_tests_is_called_in_training(run_data: Path, tmp_path: Path) -> None:
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "build", build_with_hook(lambda: calls.append(1)))
        fit(run_data, tmp_path / "run", "--epochs", "1")
    assert len(calls) == 4 + 1  # four steps and one batch of validation
