"""Parameter groups and the learning-rate schedule."""

from dataclasses import replace

import pytest
from torch.optim import Adam, AdamW

from models import build, list_architectures
from trainer.recipe import RECIPES
from trainer.training.optimise import (
    build_optimizer,
    count_parameters,
    schedule_factor,
    set_learning_rate,
)

REPORT, STANDARD = RECIPES["report"], RECIPES["standard"]


@pytest.mark.parametrize("recipe", [REPORT, STANDARD], ids=lambda r: r.name)
@pytest.mark.parametrize("arch", list_architectures())
def test_every_parameter_is_in_one_group_once(arch: str, recipe: object) -> None:
    network = build(arch, num_classes=3, base_channels=4)
    optimizer = build_optimizer(network, recipe)  # type: ignore[arg-type]
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())
    assert len(set(grouped)) == len(grouped)


@pytest.mark.parametrize("arch", list_architectures())
def test_norms_and_biases_are_not_decayed_and_the_rest_is(arch: str) -> None:
    network = build(arch, num_classes=3, base_channels=4)
    for group in build_optimizer(network, STANDARD).param_groups:
        flat = {parameter.dim() <= 1 for parameter in group["params"]}
        assert len(flat) == 1
        assert group["weight_decay"] == (0.0 if flat == {True} else STANDARD.weight_decay)


def test_a_pretrained_encoder_has_its_own_rate() -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    recipe = replace(STANDARD, lr=0.4, encoder_lr_factor=0.25)
    rates = {
        id(p): group["lr"]
        for group in build_optimizer(network, recipe, pretrained=True).param_groups
        for p in group["params"]
    }
    for name, parameter in network.named_parameters():
        assert rates[id(parameter)] == (0.1 if name.startswith("encoder.") else 0.4), name


def test_an_encoder_from_scratch_has_the_rate_of_the_rest() -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    groups = build_optimizer(network, STANDARD).param_groups
    assert {group["lr"] for group in groups} == {STANDARD.lr}


def test_the_recipe_names_the_optimizer() -> None:
    network = build("unet", num_classes=3, base_channels=4)
    assert type(build_optimizer(network, REPORT)) is Adam
    assert type(build_optimizer(network, STANDARD)) is AdamW


def test_the_reports_rate_never_changes() -> None:
    factors = {schedule_factor(REPORT, step=step, total_steps=50) for step in range(50)}
    assert factors == {1.0}


def test_a_constant_rate_warms_up_in_equal_steps() -> None:
    recipe = replace(REPORT, warmup_steps=4)
    factors = [schedule_factor(recipe, step=step, total_steps=50) for step in range(7)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1 / 11),
        (4, 5 / 11 * (96 / 100) ** 0.9),
        (10, 0.9**0.9),
        (50, 0.5**0.9),
        (99, 0.01**0.9),
    ],
)
def test_poly_is_warm_up_times_the_rest_to_the_power_of_nine_tenths(
    step: int, expected: float
) -> None:
    recipe = replace(STANDARD, warmup_steps=10)
    assert schedule_factor(recipe, step=step, total_steps=100) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1 / 11), (25, (1 + 0.5**0.5) / 2), (50, 0.5), (75, (1 - 0.5**0.5) / 2)],
)
def test_cosine_is_half_a_wave(step: int, expected: float) -> None:
    recipe = replace(STANDARD, schedule="cosine", warmup_steps=10)
    assert schedule_factor(recipe, step=step, total_steps=100) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "poly", "cosine"])
def test_the_warm_up_is_at_most_a_tenth_of_the_run(schedule: str) -> None:
    long = replace(STANDARD, schedule=schedule, warmup_steps=1000)
    short = replace(long, warmup_steps=4)
    for step in range(40):
        factor = schedule_factor(long, step=step, total_steps=40)
        assert factor == schedule_factor(short, step=step, total_steps=40)
    assert schedule_factor(long, step=0, total_steps=9) == 1.0  # no warm-up at all


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_the_rate_falls_from_the_end_of_the_warm_up_and_stays_positive(schedule: str) -> None:
    recipe = replace(STANDARD, schedule=schedule, warmup_steps=10)
    factors = [schedule_factor(recipe, step=step, total_steps=100) for step in range(100)]
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert min(factors) > 0


def test_a_steps_rate_is_set_on_every_group_from_its_own_base() -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    optimizer = build_optimizer(network, STANDARD, pretrained=True)
    for step in (3, 120, 60):  # in any order: nothing accumulates
        set_learning_rate(optimizer, STANDARD, step=step, total_steps=200)
        factor = schedule_factor(STANDARD, step=step, total_steps=200)
        rates = {group["lr"] for group in optimizer.param_groups}
        assert rates == {STANDARD.lr * factor, STANDARD.lr * 0.1 * factor}


def test_parameters_are_counted() -> None:
    assert count_parameters(build("unet")) == 31_392_086
