"""The training loop."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import build
from models.geometry import network_input, normalise
from models.manifest import InputSpec
from models.network import SegmentationNetwork
from tests.voc_folder import make_voc_folder
from trainer.data.augment import PlainResize
from trainer.data.dataset import VocFolder
from trainer.data.training_set import EpochBatches, TrainingSet
from trainer.errors import DivergedError
from trainer.evaluation.evaluate import evaluate_network
from trainer.losses import SegmentationLoss
from trainer.precision import Precision
from trainer.recipe import choose_recipe
from trainer.training.average import averaged_copy
from trainer.training.loop import Learner, RunningTotals, train_epoch
from trainer.training.optimise import build_optimizer

CPU = torch.device("cpu")
IGNORE = 255
SPEC = InputSpec(height=8, width=8, mean=(0.5,) * 3, std=(0.25,) * 3, stride=1)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(loss, of)
    return result


# --- one epoch --------------------------------------------------------------------------------


class PixelClassifier(nn.Module):
    """A 1x1 convolution from three channels to four classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images)
        return logits


def batches(sizes: list[int], *, ignored: float = 0.0) -> Iterator[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(3)
    for size in sizes:
        pixels = torch.randint(0, 256, (size, 3, 8, 8), generator=random, dtype=torch.uint8)
        labels = torch.randint(0, 4, (size, 8, 8), generator=random, dtype=torch.uint8)
        labels[torch.rand(labels.shape, generator=random) < ignored] = IGNORE
        yield pixels, labels


def learner(
    network: nn.Module, *, lr: float = 0.0, dice_weight: float = 0.0, **options: Any
) -> Learner:
    """Plain gradient descent on the cross entropy, but for the options given."""
    recipe = choose_recipe("report", {"dice_weight": dice_weight})
    given = {
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), lr=lr),
        "loss": SegmentationLoss(recipe, ignore_index=IGNORE),
        "spec": SPEC,
        "precision": Precision(CPU),
    }
    return Learner(**{**given, **options})


def run_epoch(
    network: nn.Module,
    data: Iterator[tuple[Tensor, Tensor]],
    *,
    calls: list[str] | None = None,
    **options: Any,
) -> RunningTotals:
    seen = calls if calls is not None else []
    totals = RunningTotals()
    train_epoch(
        learner(network, **options),
        data,
        totals,
        before_step=lambda: seen.append("before"),
        after_step=lambda now: seen.append(f"after {now.images}"),
    )
    return totals


def test_totals_are_those_of_all_pixels_of_the_epoch() -> None:
    network = PixelClassifier()
    totals = run_epoch(network, batches([3, 3, 1], ignored=0.2))
    loss = right = labelled = 0.0
    for pixels, labels in batches([3, 3, 1], ignored=0.2):
        logits, target = network(normalise(pixels, SPEC)), labels.long()
        mean = F.cross_entropy(logits, target, ignore_index=IGNORE)
        loss += float(mean.detach()) * len(pixels)
        right += int((logits.argmax(1) == target).sum())
        labelled += int((target != IGNORE).sum())
    assert totals.images == 7
    assert totals.mean_objective == pytest.approx(loss / 7, rel=1e-5)
    assert totals.mean_cross_entropy == pytest.approx(loss / 7, rel=1e-5)
    assert (totals.correct, totals.labelled) == (right, labelled)
    assert totals.accuracy == pytest.approx(right / labelled)


def test_what_is_minimised_and_the_cross_entropy_are_kept_apart() -> None:
    plain = run_epoch(PixelClassifier(), batches([3, 1], ignored=0.2))
    both = run_epoch(PixelClassifier(), batches([3, 1], ignored=0.2), dice_weight=1.0)
    assert both.mean_cross_entropy == plain.mean_cross_entropy
    assert 0.5 < both.mean_objective - plain.mean_objective < 1


def test_images_without_labels_are_not_in_the_mean() -> None:
    """They fill the shares of processes that would have none."""
    (pixels, labels), *_ = batches([2])
    empty = torch.full_like(labels, IGNORE)
    filled = run_epoch(
        PixelClassifier(), iter([(torch.cat([pixels] * 2), torch.cat([labels, empty]))])
    )
    exact = run_epoch(PixelClassifier(), iter([(pixels, labels)]))
    assert filled.images == exact.images == 2
    assert filled.mean_objective == pytest.approx(exact.mean_objective, rel=1e-6)


def test_callbacks_stand_around_every_step() -> None:
    calls: list[str] = []
    run_epoch(PixelClassifier(), batches([3, 3, 1]), calls=calls)
    assert calls == ["before", "after 3", "before", "after 6", "before", "after 7"]


def test_nothing_done_yet_is_not_a_number() -> None:
    assert math.isnan(RunningTotals().mean_objective)
    assert math.isnan(RunningTotals().mean_cross_entropy)
    assert math.isnan(RunningTotals().accuracy)


def test_a_step_goes_down_the_gradient_of_this_batch_alone() -> None:
    network = PixelClassifier()
    expected = network.layer.weight.detach().clone()
    for pixels, labels in batches([2, 2]):
        loss = F.cross_entropy(
            F.conv2d(normalise(pixels, SPEC), (w := expected.requires_grad_()), network.layer.bias),
            labels.long(),
        )
        expected = (w - 0.1 * gradient(loss, w)).detach()
    network.layer.bias.requires_grad_(False)  # type: ignore[union-attr]
    run_epoch(network, batches([2, 2]), lr=0.1)
    torch.testing.assert_close(network.layer.weight.detach(), expected)


def test_a_batch_without_labels_changes_no_weight() -> None:
    network = PixelClassifier()
    before = network.layer.weight.detach().clone()
    totals = run_epoch(network, batches([2], ignored=1.1), lr=1.0)
    assert torch.equal(network.layer.weight, before)
    assert (totals.images, totals.labelled) == (0, 0)
    assert math.isnan(totals.mean_objective)  # no label, no figure


def test_the_network_is_put_into_training_mode() -> None:
    network = PixelClassifier().eval()
    run_epoch(network, batches([1]))
    assert network.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_before_it_touches_the_weights(
    value: float,
) -> None:
    network = PixelClassifier()
    with torch.no_grad():
        network.layer.bias[1] = value  # type: ignore[index]
    before = network.layer.weight.detach().clone()
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf); .* try a lower --lr"):
        run_epoch(network, batches([2]), lr=1.0)
    assert torch.equal(network.layer.weight, before)


class NotANumber(torch.autograd.Function):
    """Leaves the value as it is; its gradient is NaN."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0] * float("nan")


class BadSlope(PixelClassifier):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = NotANumber.apply(super().forward(images))
        return logits


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_gradient_that_is_no_number_stops_the_run_before_it_touches_the_weights(
    clip_norm: float,
) -> None:
    network = BadSlope()
    averaged = averaged_copy(network, 0.9)
    before = network.layer.weight.detach().clone()
    with pytest.raises(DivergedError, match=r"the gradient became nan; .* --precision float32"):
        run_epoch(network, batches([2]), lr=1.0, clip_norm=clip_norm, averaged=averaged)
    assert torch.equal(network.layer.weight, before)
    assert int(averaged.n_averaged) == 0


def step_length(clip_norm: float) -> float:
    """How far one step at learning rate 1 moves all weights together."""
    network = PixelClassifier()
    before = [p.detach().clone() for p in network.parameters()]
    run_epoch(network, batches([2]), lr=1.0, clip_norm=clip_norm)
    moved = [p.detach() - b for p, b in zip(network.parameters(), before, strict=True)]
    return float(torch.cat([m.flatten() for m in moved]).norm())


def test_clipping_bounds_the_norm_of_all_gradients_together() -> None:
    free = step_length(0.0)
    assert free > 0.15
    assert step_length(0.1) == pytest.approx(0.1, rel=1e-3)
    assert step_length(2 * free) == pytest.approx(free, rel=1e-6)


class Normed(PixelClassifier):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.layer(images))
        return logits


@pytest.mark.parametrize("freeze", [False, True])
def test_frozen_batch_norms_keep_their_statistics_and_learn_their_weights(freeze: bool) -> None:
    network = Normed().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    run_epoch(network, batches([2, 2]), lr=0.1, freeze_batch_norm=freeze)
    changed = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    learned = {"layer.weight", "layer.bias", "norm.weight", "norm.bias"}
    counted = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert changed >= learned - {"layer.bias"}  # a bias before a norm has no gradient
    assert changed & counted == (set() if freeze else counted)
    assert network.training
    assert network.norm.training != freeze


def test_the_average_follows_every_step() -> None:
    network = Normed()
    averaged = averaged_copy(network, 0.5)
    run_epoch(network, batches([2, 2, 2]), lr=0.5, averaged=averaged)
    assert int(averaged.n_averaged) == 3
    weight = averaged.module.get_parameter("layer.weight")
    assert not torch.equal(weight, network.layer.weight)
    again = Normed()
    run_epoch(again, batches([2, 2, 2]), lr=0.5)
    assert torch.equal(again.layer.weight, network.layer.weight)  # the steps are the same without


def test_bfloat16_steps_keep_float32_weights() -> None:
    network = PixelClassifier()
    totals = run_epoch(network, batches([2]), lr=0.1, precision=Precision(CPU, bf16=True))
    exact = run_epoch(PixelClassifier(), batches([2]), lr=0.1)
    assert network.layer.weight.dtype == torch.float32
    assert totals.mean_objective != exact.mean_objective
    assert totals.mean_objective == pytest.approx(exact.mean_objective, rel=0.02)


def test_a_batch_on_the_device_is_normalised_and_channels_last() -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    images = network_input(pixels, SPEC, CPU)
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images, (pixels / 255 - 0.5) / 0.25)


# --- learning ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four_images(tmp_path_factory: pytest.TempPathFactory) -> VocFolder:
    """`train` holds four images; the border is left out."""
    root = make_voc_folder(tmp_path_factory.mktemp("four") / "voc", count=5, seed=1)
    return VocFolder.open(root, border="ignore")


def overfit(network: SegmentationNetwork, folder: VocFolder, *, steps: int, lr: float) -> float:
    """Pixel accuracy on the four images after training on nothing else."""
    ids = folder.split("train")
    assert len(ids) == 4
    spec = InputSpec(height=64, width=64, mean=network.mean, std=network.std, stride=network.stride)
    recipe = choose_recipe("report", {"lr": lr})
    samples = TrainingSet(folder, ids, PlainResize(64, 64), seed=0)
    (keys,) = EpochBatches(4, 4, epoch=1, seed=0)
    pairs = [samples[key] for key in keys]
    batch = (torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
    train_epoch(
        learner(network, optimizer=build_optimizer(network, recipe), spec=spec),
        [batch] * steps,
        RunningTotals(),
        before_step=lambda: None,
        after_step=lambda _: None,
    )
    return evaluate_network(network, folder, ids, spec, Precision(CPU)).matrix.pixel_accuracy()


@pytest.mark.parametrize("arch", ["unet", "unet_resnet50", "unet_efficientnet_lite0"])
def test_four_images_can_be_learned_by_heart(arch: str, four_images: VocFolder) -> None:
    labelled = torch.cat([four_images.read_labels(i).flatten() for i in four_images.split("train")])
    labelled = labelled[labelled != IGNORE]
    assert float((labelled == 0).float().mean()) < 0.7  # what "all background" would score
    torch.manual_seed(0)
    network = build(arch, num_classes=21, base_channels=8)
    assert overfit(network, four_images, steps=60, lr=1e-2) > 0.95
