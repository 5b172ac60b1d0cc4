"""The command line of `fit`: every field of the configuration and the recipe can be asked for."""

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from models import list_architectures
from tests.trainer.command_line import refusal, run_command, succeed
from trainer.config import FitConfig
from trainer.fit_options import RECIPE_FIELDS, fit_config
from trainer.recipe import RECIPES

REQUIRED = ("--data", "images", "--arch", "unet", "--out", "run")

# a value other than the default, and how it is typed
TYPED: dict[str, Any] = {
    "train_split": "trainval",
    "val_split": "test",
    "image_size": "64x96",
    "crop_size": "48",
    "input_mode": "tile",
    "border": "ignore",
    "init": Path("other.pth"),
    "encoder_weights": "imagenet",
    "device": "cuda:1",
    "precision": "bfloat16",
    "weights_dtype": "float16",
    "limit": 7,
    "workers": 3,
    "optimizer": "adam",
    "schedule": "cosine",
    "loss": "focal",
    "class_weights": "median_frequency",
    "scale_min": 0.5,
    "ohem_fraction": 0.25,
    "ema_decay": 0.5,
}


def another(name: str, default: Any) -> Any:
    if name in TYPED:
        return TYPED[name]
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int) or default >= 1 else 0.75


def asked(*arguments: str) -> FitConfig:
    """The configuration that a command line means."""
    seen: list[FitConfig] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.__main__.fit_command", seen.append)
        succeed("fit", *REQUIRED, *arguments)
    (config,) = seen
    return config


def typed(name: str, value: Any) -> tuple[str, ...]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return (flag if value else flag.replace("--", "--no-"),)
    return flag, str(value)


PLAIN = FitConfig(data=Path("images"), arch="unet", out=Path("run"), recipe=RECIPES["standard"])
OPTIONS = [field for field in fields(FitConfig) if field.default is not MISSING]


def test_without_options_everything_is_the_default() -> None:
    assert asked() == PLAIN


@pytest.mark.parametrize("name", [field.name for field in OPTIONS])
def test_an_option_sets_the_field_of_its_name_alone(name: str) -> None:
    value = another(name, getattr(PLAIN, name))
    assert value != getattr(PLAIN, name)
    assert asked(*typed(name, value)) == replace(PLAIN, **{name: value})


@pytest.mark.parametrize("name", [field.name for field in RECIPE_FIELDS])
def test_a_choice_overrides_that_of_the_recipe_alone(name: str) -> None:
    recipe = RECIPES["standard"]
    value = another(name, getattr(recipe, name))
    assert value != getattr(recipe, name)
    assert asked(*typed(name, value)).recipe == replace(recipe, **{name: value})


def test_every_field_is_an_option_but_the_recipes_name() -> None:
    names = {field.name for field in (*fields(FitConfig), *RECIPE_FIELDS)}
    shown = help_text()
    assert [name for name in names if f"--{name.replace('_', '-')} " not in shown] == []
    assert "--name" not in shown


def test_the_recipe_is_chosen_and_overridden() -> None:
    config = asked("--recipe", "report", "--lr", "0.5", "--augment")
    assert config.recipe == replace(RECIPES["report"], lr=0.5, augment=True)


def test_what_a_recipe_turns_on_can_be_turned_off_and_the_other_way_round() -> None:
    assert not asked("--no-augment").recipe.augment
    assert asked("--freeze-batch-norm").recipe.freeze_batch_norm
    assert not asked("--no-freeze-batch-norm").recipe.freeze_batch_norm


@pytest.mark.parametrize("option", ["--no-resume", "--no-compile", "--no-tensorboard"])
def test_a_plain_flag_has_no_opposite(option: str) -> None:
    assert run_command("fit", *REQUIRED, option).status == 2


def test_unparsed_options_become_a_configuration() -> None:
    options: dict[str, Any] = {field.name: field.default for field in OPTIONS}
    options |= {field.name: None for field in RECIPE_FIELDS}
    options |= {"data": Path("images"), "arch": "unet", "out": Path("run"), "recipe": "standard"}
    before = dict(options)
    assert fit_config(options) == PLAIN
    assert options == before


# --- what a person reads ----------------------------------------------------------------------


def help_text() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")
        patch.setenv("NO_COLOR", "1")
        return succeed("fit", "--help").words


def test_help_says_what_each_recipe_chooses() -> None:
    shown = help_text()
    assert "update rule: adam, adamw (standard adamw, report adam)" in shown
    assert "learning rate (standard 0.002, report 0.001)" in shown
    assert "bfloat16 where the hardware has it, or: auto, float32, bfloat16" in shown
    assert all(name in shown for name in (*list_architectures(), *RECIPES))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--recipe", "slow"), "--recipe slow: choose from standard, report"),
        (("--input-mode", "whole"), "--input-mode whole: choose from resize, tile"),
        (("--weights-dtype", "int8"), "--weights-dtype int8: choose from float32, float16"),
        (("--clip-norm", "-1"), "--clip-norm -1.0: must lie in 0.."),
    ],
)
def test_a_value_out_of_its_limits_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal("fit", *REQUIRED, *arguments)
