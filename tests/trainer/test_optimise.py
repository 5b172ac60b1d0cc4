"""Parameter groups and the learning-rate schedule."""

from dataclasses import replace

import pytest
from torch.optim import Adam, AdamW

from models import build, list_architectures
from trainer.optimise import (
    build_optimizer,
    count_parameters,
    schedule_factor,
    set_learning_rate,
)
from trainer.recipe import RECIPES

REPORT, FINETUNE = RECIPES["report"], RECIPES["finetune"]


@pytest.mark.parametrize("recipe", [REPORT, FINETUNE], ids=lambda r: r.name)
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
    for group in build_optimizer(network, FINETUNE).param_groups:
        flat = {parameter.dim() <= 1 for parameter in group["params"]}
        assert len(flat) == 1
        assert group["weight_decay"] == (0.0 if flat == {True} else FINETUNE.weight_decay)


def test_the_pretrained_encoder_has_its_own_rate() -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    rates = {
        id(p): group["lr"]
        for group in build_optimizer(network, FINETUNE).param_groups
        for p in group["params"]
    }
    for name, parameter in network.named_parameters():
        expected = FINETUNE.encoder_lr if name.startswith("encoder.") else FINETUNE.lr
        assert rates[id(parameter)] == expected, name


def test_without_an_encoder_rate_there_is_one_rate() -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    groups = build_optimizer(network, replace(FINETUNE, encoder_lr=None)).param_groups
    assert {group["lr"] for group in groups} == {FINETUNE.lr}


def test_the_recipe_names_the_optimizer() -> None:
    network = build("unet", num_classes=3, base_channels=4)
    assert type(build_optimizer(network, REPORT)) is Adam
    assert type(build_optimizer(network, FINETUNE)) is AdamW


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
    recipe = replace(FINETUNE, warmup_steps=10)
    assert schedule_factor(recipe, step=step, total_steps=100) == pytest.approx(expected)


def test_poly_falls_from_the_end_of_the_warm_up_and_stays_positive() -> None:
    recipe = replace(FINETUNE, warmup_steps=10)
    factors = [schedule_factor(recipe, step=step, total_steps=100) for step in range(100)]
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert min(factors) > 0


def test_a_steps_rate_is_set_on_every_group_from_its_own_base() -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    optimizer = build_optimizer(network, FINETUNE)
    for step in (3, 120, 60):  # in any order: nothing accumulates
        set_learning_rate(optimizer, FINETUNE, step=step, total_steps=200)
        factor = schedule_factor(FINETUNE, step=step, total_steps=200)
        rates = {group["lr"] for group in optimizer.param_groups}
        assert rates == {FINETUNE.lr * factor, 3e-4 * factor}


def test_parameters_are_counted() -> None:
    assert count_parameters(build("unet")) == 31_392_086
