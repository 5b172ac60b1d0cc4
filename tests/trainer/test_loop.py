"""The training loop and its loss."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import build
from models.geometry import network_input, normalise
from models.manifest import InputSpec
from models.network import SegmentationNetwork
from tests.voc_folder import make_voc_folder
from trainer.augment import PlainResize
from trainer.dataset import EpochSampler, TrainingSet, VocFolder
from trainer.errors import DivergedError
from trainer.evaluate import evaluate_network
from trainer.loop import Precision, RunningTotals, pixel_loss, train_epoch
from trainer.optimise import build_optimizer
from trainer.recipe import choose_recipe

CPU = torch.device("cpu")
IGNORE = 255
SPEC = InputSpec(height=8, width=8, mean=(0.5,) * 3, std=(0.25,) * 3, stride=1)


# --- the loss ---------------------------------------------------------------------------------


def logits_and_target(*, ignored: float) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, 5, generator=random, requires_grad=True)
    target = torch.randint(0, 4, (2, 6, 5), generator=random)
    target[torch.rand(target.shape, generator=random) < ignored] = IGNORE
    return logits, target


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(loss, of)
    return result


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.9])
def test_the_loss_is_cross_entropy_over_the_labelled_pixels(ignored: float) -> None:
    logits, target = logits_and_target(ignored=ignored)
    ours = pixel_loss(logits, target, IGNORE)
    theirs = F.cross_entropy(logits, target, ignore_index=IGNORE)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))


def test_ignored_pixels_have_no_influence_and_no_gradient() -> None:
    logits, target = logits_and_target(ignored=0.4)
    ignored = (target == IGNORE)[:, None].expand_as(logits)
    loss = pixel_loss(logits, target, IGNORE)
    slope = gradient(loss, logits)
    assert (slope[ignored] == 0).all()
    assert (slope[~ignored] != 0).all()
    changed = torch.where(ignored, logits.detach() * -50 + 7, logits.detach())
    assert torch.equal(pixel_loss(changed, target, IGNORE), loss)


def test_a_batch_without_labels_has_loss_0_and_gradient_0() -> None:
    logits, target = logits_and_target(ignored=1.1)
    loss = pixel_loss(logits, target, IGNORE)
    assert float(loss.detach()) == 0
    assert (gradient(loss, logits) == 0).all()


def test_the_loss_of_bfloat16_logits_is_taken_in_float32() -> None:
    logits, target = logits_and_target(ignored=0.0)
    loss = pixel_loss(logits.bfloat16(), target, IGNORE)
    assert loss.dtype == torch.float32
    expected = F.cross_entropy(logits.bfloat16().float(), target)
    torch.testing.assert_close(loss, expected)


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


def run_epoch(
    network: nn.Module,
    data: Iterator[tuple[Tensor, Tensor]],
    *,
    lr: float = 0.0,
    calls: list[str] | None = None,
    bf16: bool = False,
) -> RunningTotals:
    seen = calls if calls is not None else []
    totals = RunningTotals()
    train_epoch(
        network,
        data,
        torch.optim.SGD(network.parameters(), lr=lr),
        SPEC,
        ignore_index=IGNORE,
        precision=Precision(CPU, bf16),
        totals=totals,
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
    assert totals.mean_loss == pytest.approx(loss / 7, rel=1e-5)
    assert (totals.correct, totals.labelled) == (right, labelled)
    assert totals.accuracy == pytest.approx(right / labelled)


def test_callbacks_stand_around_every_step() -> None:
    calls: list[str] = []
    run_epoch(PixelClassifier(), batches([3, 3, 1]), calls=calls)
    assert calls == ["before", "after 3", "before", "after 6", "before", "after 7"]


def test_nothing_done_yet_is_not_a_number() -> None:
    assert math.isnan(RunningTotals().mean_loss)
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
    assert (totals.mean_loss, totals.labelled) == (0.0, 0)


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
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf); try a lower --lr"):
        run_epoch(network, batches([2]), lr=1.0)
    assert torch.equal(network.layer.weight, before)


def test_bfloat16_steps_keep_float32_weights() -> None:
    network = PixelClassifier()
    totals = run_epoch(network, batches([2]), lr=0.1, bf16=True)
    exact = run_epoch(PixelClassifier(), batches([2]), lr=0.1)
    assert network.layer.weight.dtype == torch.float32
    assert totals.mean_loss != exact.mean_loss
    assert totals.mean_loss == pytest.approx(exact.mean_loss, rel=0.02)


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
    optimizer = build_optimizer(network, choose_recipe("report", {"lr": lr}))
    samples = TrainingSet(folder, ids, PlainResize(64, 64), seed=0)
    pairs = [samples[key] for key in EpochSampler(4, epoch=1, seed=0)]
    batch = (torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
    train_epoch(
        network,
        [batch] * steps,
        optimizer,
        spec,
        ignore_index=IGNORE,
        precision=Precision(CPU),
        totals=RunningTotals(),
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
