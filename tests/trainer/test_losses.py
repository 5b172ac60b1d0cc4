"""The losses, against formulas written down a second time."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.losses import BatchLoss, SegmentationLoss, cross_entropy, hardest
from trainer.recipe import RECIPES

IGNORE = 255
K = 4
REPORT = RECIPES["report"]


def loss(
    *,
    weights: Tensor | None = None,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
    **choices: Any,
) -> SegmentationLoss:
    """Plain cross entropy, but for the choices given."""
    recipe = replace(REPORT, **choices)
    return SegmentationLoss(recipe, ignore_index=IGNORE, class_weights=weights, total=total)


def logits_and_target(
    *, ignored: float, images: int = 2, classes: int = K, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Logits (N, K, 6, 5) and a target of the classes below `classes`."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, K, 6, 5, generator=random, requires_grad=True)
    target = torch.randint(0, classes, (images, 6, 5), generator=random)
    target[torch.rand(target.shape, generator=random) < ignored] = IGNORE
    return logits, target


def gradient(value: Tensor, of: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(value, of, retain_graph=True)
    return result


def require_same(ours: Tensor, theirs: Tensor, logits: Tensor) -> None:
    """Equal values and equal gradients."""
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))


# --- a loss for each pixel --------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0, 0.5])])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.9])
def test_it_is_torchs_cross_entropy_over_the_labelled_pixels(
    ignored: float, weights: Tensor | None
) -> None:
    logits, target = logits_and_target(ignored=ignored)
    expected = F.cross_entropy(logits, target, ignore_index=IGNORE, weight=weights)
    require_same(loss(weights=weights)(logits, target).objective, expected, logits)


def test_focal_loss_turns_away_from_what_is_already_right() -> None:
    logits, target = logits_and_target(ignored=0.3)
    labelled = target != IGNORE
    right = logits.softmax(1).gather(1, target.where(labelled, 0)[:, None])[:, 0][labelled]
    expected = (-((1 - right) ** 2) * right.log()).mean()
    require_same(loss(loss="focal")(logits, target).objective, expected, logits)


def test_only_the_hardest_pixels_of_each_image_count() -> None:
    logits, target = logits_and_target(ignored=0.3)
    with torch.no_grad():
        logits[1] *= 5  # by itself the second image would have most of the hardest pixels
    pixel = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    kept = []
    for values, labels in zip(pixel, target, strict=True):
        labelled = values[labels != IGNORE]
        kept.append(labelled.sort(descending=True).values[: math.ceil(0.25 * len(labelled))])
    assert all(len(values) > 3 for values in kept)
    expected = torch.cat(kept).mean()
    require_same(loss(ohem_fraction=0.25)(logits, target).objective, expected, logits)


@pytest.mark.parametrize(("labelled", "count"), [(8, 2), (9, 3), (1, 1), (0, 0)])
def test_a_share_of_the_labelled_pixels_is_rounded_up(labelled: int, count: int) -> None:
    values = torch.arange(30.0).view(1, 5, 6).flip(-1)
    mask = torch.zeros(30, dtype=torch.bool)
    mask[:labelled] = True
    chosen = hardest(values, mask.view(1, 5, 6), 0.25)
    assert int(chosen.sum()) == count
    assert not chosen[~mask.view(1, 5, 6)].any()


def test_pixels_of_equal_loss_are_kept_in_the_number_asked_for() -> None:
    assert int(hardest(torch.ones(3, 4, 4), torch.ones(3, 4, 4).bool(), 0.5).sum()) == 3 * 8


# --- Dice -------------------------------------------------------------------------------------


def dice_by_hand(logits: Tensor, target: Tensor) -> Tensor:
    """Class by class over the whole batch, smoothed by 1; the mean over the classes present."""
    scores = []
    probability = logits.softmax(1).movedim(1, -1)[target != IGNORE]  # (labelled, K)
    labels = target[target != IGNORE]
    for index in sorted(set(labels.tolist())):
        truth, ours = (labels == index).float(), probability[:, index]
        scores.append((2 * (truth * ours).sum() + 1) / (truth.sum() + ours.sum() + 1))
    return 1 - torch.stack(scores).mean()


@pytest.mark.parametrize("classes", [K, 2])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_dice_is_added_to_the_cross_entropy(ignored: float, classes: int) -> None:
    logits, target = logits_and_target(ignored=ignored, classes=classes)
    dice = dice_by_hand(logits, target)
    plain = F.cross_entropy(logits, target, ignore_index=IGNORE)
    require_same(loss(dice_weight=0.7)(logits, target).objective, plain + 0.7 * dice, logits)


def test_a_perfect_answer_has_no_dice_loss_and_a_wrong_one_nearly_all() -> None:
    target = torch.zeros(1, 40, 40, dtype=torch.long)
    target[:, :20] = 1
    right = F.one_hot(target, K).movedim(-1, 1).float() * 50
    weight = 1.0
    good = loss(dice_weight=weight)(right, target).objective
    bad = loss(dice_weight=weight)(right.roll(1, 1), target)
    assert float(good) == pytest.approx(0, abs=1e-6)
    assert float(bad.objective) - bad.cross_entropy == pytest.approx(1, abs=0.01)


def test_a_class_that_is_not_there_is_not_in_the_mean() -> None:
    """Its Dice would be 1 / (1 + what is predicted): it would teach the absence of rare classes,
    which the cross entropy does already."""
    logits, target = logits_and_target(ignored=0.2, classes=2)
    both = loss(dice_weight=1.0)(logits, target)
    plain = loss()(logits, target)
    dice = float((both.objective - plain.objective).detach())
    assert dice == pytest.approx(float(dice_by_hand(logits.detach(), target)), abs=1e-6)
    # of two logits, neither of a class that is present, only the sum of their probabilities matters
    with torch.no_grad():
        swapped = logits[:, [0, 1, 3, 2]]
    again = loss(dice_weight=1.0)(swapped, target)
    assert float(again.objective) == pytest.approx(float(both.objective.detach()), abs=1e-6)


# --- what is not labelled ---------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {"loss": "focal", "dice_weight": 1.0, "ohem_fraction": 0.5}
KINDS: list[dict[str, Any]] = [{}, {"dice_weight": 1.0}, EVERYTHING]


@pytest.mark.parametrize("choices", KINDS, ids=str)
def test_ignored_pixels_have_no_influence_and_no_gradient(choices: dict[str, Any]) -> None:
    logits, target = logits_and_target(ignored=0.4)
    ignored = (target == IGNORE)[:, None].expand_as(logits)
    value = loss(**choices)(logits, target)
    slope = gradient(value.objective, logits)
    assert (slope[ignored] == 0).all()
    assert (slope[~ignored] != 0).float().mean() > 0.4
    changed = torch.where(ignored, logits.detach() * -50 + 7, logits.detach())
    again = loss(**choices)(changed, target)
    assert torch.equal(again.objective, value.objective)
    assert torch.equal(again.sums, value.sums)


@pytest.mark.parametrize("choices", KINDS, ids=str)
def test_a_batch_without_labels_has_loss_0_and_gradient_0(choices: dict[str, Any]) -> None:
    logits, target = logits_and_target(ignored=1.1)
    value = loss(**choices)(logits, target)
    assert float(value.objective.detach()) == 0
    assert (gradient(value.objective, logits) == 0).all()
    assert (value.cross_entropy, value.images, value.correct, value.labelled) == (0.0, 0, 0, 0)


# --- a batch in parts -------------------------------------------------------------------------


def in_parts(
    logits: Tensor, target: Tensor, sizes: list[int], weights: Tensor | None, **choices: Any
) -> list[BatchLoss]:
    """The loss of each part, as processes would have it that add their sums."""
    parts = list(zip(torch.split(logits, sizes), torch.split(target, sizes), strict=True))
    asked: list[list[Tensor]] = []
    for part in parts:
        sums: list[Tensor] = []

        def note(mine: Tensor, sums: list[Tensor] = sums) -> Tensor:
            sums.append(mine)
            return mine

        loss(weights=weights, total=note, **choices)(*part)
        asked.append(sums)
    added = [sum(each[1:], each[0]) for each in zip(*asked, strict=True)]
    results = []
    for part in parts:
        answers = iter(added)
        results.append(
            loss(weights=weights, total=lambda _, a=answers: next(a), **choices)(*part)  # type: ignore[misc]
        )
    return results


@pytest.mark.parametrize("sizes", [[2, 3], [1, 3, 1]])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0, 0.5])])
@pytest.mark.parametrize("choices", KINDS, ids=str)
def test_parts_that_add_their_sums_have_the_loss_of_the_whole(
    choices: dict[str, Any], weights: Tensor | None, sizes: list[int]
) -> None:
    """The mean of the parts' losses is another number where their labelled pixels differ."""
    logits, target = logits_and_target(ignored=0.3, images=5)
    target[0] = IGNORE
    target[1, :4] = IGNORE
    whole = loss(weights=weights, **choices)(logits, target)
    slope = gradient(whole.objective, logits)
    for part in in_parts(logits, target, sizes, weights, **choices):
        torch.testing.assert_close(part.objective, whole.objective)
        torch.testing.assert_close(gradient(part.objective, logits), slope)
        assert part.cross_entropy == pytest.approx(whole.cross_entropy)
        assert (part.images, part.correct, part.labelled) == (
            whole.images,
            whole.correct,
            whole.labelled,
        )


# --- the record -------------------------------------------------------------------------------


@pytest.mark.parametrize("choices", KINDS, ids=str)
def test_the_record_is_plain_cross_entropy_and_counts_whatever_is_minimised(
    choices: dict[str, Any],
) -> None:
    logits, target = logits_and_target(ignored=0.3, images=3)
    target[1] = IGNORE
    value = loss(weights=torch.tensor([0.2, 1.0, 3.0, 0.5]), **choices)(logits, target)
    plain = float(F.cross_entropy(logits, target, ignore_index=IGNORE).detach())
    assert value.cross_entropy == pytest.approx(plain, rel=1e-6)
    assert value.images == 2  # the one without labels has taught nothing
    assert value.labelled == int((target != IGNORE).sum())
    assert value.correct == int((logits.argmax(1) == target).sum())


def test_the_loss_of_bfloat16_logits_is_taken_in_float32() -> None:
    logits, target = logits_and_target(ignored=0.0)
    coarse = logits.detach().bfloat16()
    for choices in KINDS:
        value = loss(**choices)(coarse, target)
        assert value.objective.dtype == torch.float32
        assert torch.equal(value.objective, loss(**choices)(coarse.float(), target).objective)
    expected = F.cross_entropy(coarse.float(), target)
    torch.testing.assert_close(loss()(coarse, target).objective, expected)


# --- the validation's -------------------------------------------------------------------------


@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.1])
def test_the_validations_loss_is_cross_entropy_or_0(ignored: float) -> None:
    logits, target = logits_and_target(ignored=ignored)
    expected = F.cross_entropy(logits, target, ignore_index=IGNORE).nan_to_num()
    torch.testing.assert_close(cross_entropy(logits, target, IGNORE), expected)
    assert cross_entropy(logits.bfloat16(), target, IGNORE).dtype == torch.float32
