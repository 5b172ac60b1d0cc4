"""Named sets of training choices."""

import pytest

from trainer.errors import ConfigError
from trainer.recipe import RECIPES, choose_recipe


def test_the_reports_recipe_is_adam_with_one_constant_rate_and_plain_images() -> None:
    recipe = choose_recipe("report", {})
    assert (recipe.optimizer, recipe.schedule, recipe.augment) == ("adam", "constant", False)
    assert (recipe.encoder_lr, recipe.weight_decay, recipe.warmup_steps) == (None, 0.0, 0)


def test_fine_tuning_moves_the_encoder_in_smaller_steps() -> None:
    recipe = choose_recipe("finetune", {})
    assert recipe.encoder_lr is not None
    assert recipe.encoder_lr < recipe.lr
    assert recipe.augment


def test_an_override_changes_that_choice_alone() -> None:
    recipe = choose_recipe("finetune", {"lr": 0.5, "schedule": None, "augment": False})
    assert (recipe.lr, recipe.augment) == (0.5, False)
    assert recipe.schedule == RECIPES["finetune"].schedule
    assert recipe.name == "finetune"
    assert RECIPES["finetune"].augment  # the recipe itself stays


def test_an_unknown_recipe_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="--recipe slow: choose from report, finetune"):
        choose_recipe("slow", {})
