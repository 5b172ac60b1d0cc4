"""Named sets of training choices."""

from dataclasses import replace
from typing import Any

import pytest

from trainer.errors import ConfigError
from trainer.recipe import RECIPES, Recipe, choose_recipe


def test_the_reports_recipe_is_adam_with_one_constant_rate_and_plain_images() -> None:
    recipe = choose_recipe("report", {})
    assert (recipe.optimizer, recipe.lr, recipe.schedule) == ("adam", 1e-3, "constant")
    assert (recipe.encoder_lr_factor, recipe.weight_decay, recipe.warmup_steps) == (1.0, 0.0, 0)
    assert (recipe.loss, recipe.dice_weight, recipe.ohem_fraction) == ("cross_entropy", 0.0, 1.0)
    assert (recipe.clip_norm, recipe.ema_decay, recipe.augment) == (0.0, 0.0, False)
    assert (recipe.class_weights, recipe.freeze_batch_norm) == ("none", False)


def test_the_first_recipe_is_the_default_and_has_the_defaults() -> None:
    assert next(iter(RECIPES)) == "standard"
    assert choose_recipe("standard", {}) == Recipe(name="standard")


def test_the_standard_recipe_moves_a_pretrained_encoder_in_smaller_steps() -> None:
    recipe = choose_recipe("standard", {})
    assert recipe.encoder_lr_factor < 1
    assert recipe.augment


def test_an_override_changes_that_choice_alone() -> None:
    recipe = choose_recipe("standard", {"lr": 0.5, "schedule": None, "augment": False})
    assert recipe == replace(RECIPES["standard"], lr=0.5, augment=False)
    assert RECIPES["standard"].augment  # the recipe itself stays


def test_an_unknown_recipe_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="--recipe slow: choose from standard, report"):
        choose_recipe("slow", {})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("encoder_lr_factor", 0.0),
        ("weight_decay", -0.1),
        ("warmup_steps", -1),
        ("schedule", "stairs"),
        ("optimizer", "sgd"),
        ("clip_norm", -1.0),
        ("ema_decay", 1.0),
        ("loss", "hinge"),
        ("dice_weight", -0.5),
        ("dice_weight", float("nan")),
        ("ohem_fraction", 0.0),
        ("ohem_fraction", 1.5),
        ("class_weights", "mean"),
        ("scale_min", 0.0),
        ("scale_max", 30.0),
        ("stretch", 0.9),
        ("flip", 1.1),
        ("rotation", 181.0),
        ("color", -0.1),
        ("blur", 2.0),
    ],
)
def test_a_choice_that_cannot_work_is_named_with_its_value(option: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_recipe("standard", {option: value})
    assert str(caught.value).startswith(f"--{option.replace('_', '-')} {value}: ")


def test_the_smallest_scale_is_not_above_the_largest() -> None:
    with pytest.raises(ConfigError, match=r"--scale-min 2\.0: is above --scale-max 1\.75"):
        choose_recipe("standard", {"scale_min": 2.0})
    assert choose_recipe("standard", {"scale_min": 1.75}).scale_min == 1.75
