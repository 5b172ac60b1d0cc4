"""`fit` end to end, second part: averaged weights, validation now and then, an early end."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.command_line import succeed
from tests.trainer.runs import SMALL, equal_weights, fit, manifest, rows, weights

VALIDATION = ("val_loss", "val_accuracy", "val_mean_iou")


def state(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    return content


# --- the standard recipe ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def standard(run_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five epochs, of which 2, 4 and the last are validated."""
    out = tmp_path_factory.mktemp("runs") / "standard"
    options = ("--recipe", "standard", "--epochs", "5", "--checkpoint-every", "9")
    fit(run_data, out, *options, "--validate-every", "2")
    return out


def test_a_checkpoint_holds_the_averaged_weights(standard: Path) -> None:
    kept, saved = weights(standard / "checkpoints/last.pth"), state(standard)
    averaged = {f"module.{key}": value for key, value in kept.items()}
    assert averaged.keys() | {"n_averaged"} == saved["averaged"].keys()
    assert all(torch.equal(value, saved["averaged"][key]) for key, value in averaged.items())
    assert int(saved["averaged"]["n_averaged"]) == saved["progress"]["step"] == 20
    key = "convDown1.0.weight"
    assert not torch.equal(kept[key], saved["network"][key])


def test_the_metrics_of_averaged_weights_are_what_evaluate_finds(
    standard: Path, run_data: Path
) -> None:
    path = standard / "checkpoints/last.pth"
    figures = manifest(path)["metrics"]
    shown = succeed("evaluate", "--checkpoint", path, "--data", run_data).words
    expected = f"pixel accuracy {figures['pixel_accuracy']:.4f}, mean IoU {figures['mean_iou']:.4f}"
    assert expected in shown
    assert f"loss {figures['loss']:.4f}" in shown
    last = rows(standard)[-1]
    assert float(last["val_loss"]) == pytest.approx(figures["loss"], rel=1e-4)
    assert float(last["val_mean_iou"]) == pytest.approx(figures["mean_iou"], rel=1e-4)


def test_epochs_that_were_not_validated_have_no_figures(standard: Path) -> None:
    table = rows(standard)
    measured = [int(row["epoch"]) for row in table if all(row[name] for name in VALIDATION)]
    empty = [int(row["epoch"]) for row in table if not any(row[name] for name in VALIDATION)]
    assert (measured, empty) == ([2, 4, 5], [1, 3])
    best = manifest(standard / "checkpoints/best.pth")
    scores = {int(row["epoch"]): float(row["val_mean_iou"]) for row in table if row["val_mean_iou"]}
    assert best["training"]["epoch"] == max(scores, key=lambda epoch: (scores[epoch], -epoch))


def test_what_is_minimised_is_more_than_the_cross_entropy(standard: Path, run_data: Path) -> None:
    for row in rows(standard):
        dice = float(row["train_loss"]) - float(row["train_cross_entropy"])
        assert 0.3 < dice < 1


def test_the_rate_falls(standard: Path) -> None:
    rates = [float(row["learning_rate"]) for row in rows(standard)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.1 * rates[0]


def test_a_checkpoint_without_validation_has_no_metrics(run_data: Path, tmp_path: Path) -> None:
    """Figures of older weights would be wrong for these."""
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "trainer.training.run.Run._stopped_early", lambda self: self.progress.epoch == 2
        )
        fit(run_data, out, "--epochs", "3", "--validate-every", "3")
    assert manifest(out / "checkpoints/last.pth")["metrics"] is None
    assert not (out / "checkpoints/best.pth").exists()
    fit(run_data, out, "--epochs", "3", "--validate-every", "3", "--resume")
    assert manifest(out / "checkpoints/best.pth")["training"]["epoch"] == 3


# --- an early end -----------------------------------------------------------------------------

# nothing that is learned: the mean IoU of the first epoch is never bettered
IDLE = ("--lr", "1e-12", "--freeze-batch-norm", "--epochs", "6")


def test_a_run_ends_when_it_does_not_get_better(run_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = fit(run_data, out, *IDLE, "--early-stop", "2")
    assert len(rows(out)) == 3
    assert "no better mean IoU since epoch 1: stopped early" in outcome.log
    best = manifest(out / "checkpoints/best.pth")
    assert best["training"]["epoch"] == 1

    outcome = fit(run_data, out, *IDLE, "--early-stop", "2", "--resume")  # still no better
    assert len(rows(out)) == 3
    assert "stopped early" in outcome.log
    fit(run_data, out, *IDLE, "--early-stop", "4", "--resume")
    assert len(rows(out)) == 5
    fit(run_data, out, *IDLE, "--resume")
    assert len(rows(out)) == 6


def test_an_epoch_that_was_not_validated_is_no_worse(run_data: Path, tmp_path: Path) -> None:
    """Judged at the third, the run would end without having looked a second time."""
    out = tmp_path / "run"
    fit(run_data, out, *IDLE, "--early-stop", "1", "--validate-every", "2")
    assert [row["epoch"] for row in rows(out) if row["val_mean_iou"]] == ["2", "4"]
    assert len(rows(out)) == 4


# --- where it starts, what it computes with ---------------------------------------------------


def base_rates(out: Path) -> set[float]:
    return {group["base_lr"] for group in state(out)["optimizer"]["param_groups"]}


def test_an_encoder_that_was_trained_before_moves_in_smaller_steps(
    run_data: Path, tmp_path: Path
) -> None:
    network = ("--arch", "unet_efficientnet_lite0", "--image-size", "64", "--limit", "2")
    options = (*network, "--epochs", "1", "--lr", "0.01", "--encoder-lr-factor", "0.5")
    fit(run_data, tmp_path / "first", *options)
    assert base_rates(tmp_path / "first") == {0.01}
    start = tmp_path / "first/checkpoints/last.pth"
    fit(run_data, tmp_path / "second", *options, "--init", start)
    assert base_rates(tmp_path / "second") == {0.01, 0.005}
    fit(run_data, tmp_path / "second", *options, "--resume")
    assert base_rates(tmp_path / "second") == {0.01, 0.005}  # as it was begun


class Compiled(nn.Module):
    """As torch.compile wraps a network, without the minutes that compiling takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._orig_mod = network
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self._orig_mod(images)
        return logits


def test_a_compiled_network_leaves_plain_checkpoints(run_data: Path, tmp_path: Path) -> None:
    made: list[Compiled] = []

    def compile_network(network: nn.Module) -> nn.Module:
        made.append(Compiled(network))
        return made[-1]

    options = ("--recipe", "standard", "--epochs", "2")
    fit(run_data, tmp_path / "plain", *options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compile_network)
        fit(run_data, tmp_path / "compiled", *options, "--compile")
    assert [each.calls for each in made] == [8]  # the steps, not the validation
    last = "checkpoints/last.pth"
    assert equal_weights(tmp_path / "plain" / last, tmp_path / "compiled" / last)
    ours, theirs = state(tmp_path / "compiled"), state(tmp_path / "plain")
    assert ours["network"].keys() == theirs["network"].keys()
    assert ours["averaged"].keys() == theirs["averaged"].keys()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--image-size", "48x32"), ("resize", 48, 32)),
        (("--image-size", "64x48", "--crop-size", "32"), ("resize", 64, 48)),
        (("--image-size", "32x48", "--input-mode", "tile"), ("tile", 32, 48)),
    ],
    ids=["oblong", "crop", "tile"],
)
def test_the_manifest_has_the_input_of_serving(
    options: tuple[str, ...], expected: tuple[str, int, int], run_data: Path, tmp_path: Path
) -> None:
    fit(run_data, tmp_path / "run", *SMALL, *options, "--epochs", "1", "--limit", "2")
    content = manifest(tmp_path / "run/checkpoints/last.pth")["input"]
    assert (content["mode"], content["height"], content["width"]) == expected
