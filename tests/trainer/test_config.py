"""Options of `fit` and what they refuse."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from models import list_architectures
from trainer.config import FitConfig
from trainer.errors import ConfigError
from trainer.recipe import RECIPES


def config(**options: Any) -> FitConfig:
    given = {"data": Path("data"), "arch": "unet", "out": Path("run"), "recipe": RECIPES["report"]}
    return FitConfig(**{**given, **options})


def recipe(**choices: Any) -> FitConfig:
    return config(recipe=dataclasses.replace(RECIPES["report"], **choices))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("epochs", -3),
        ("batch_size", 0),
        ("image_size", 16),
        ("image_size", 5000),
        ("base_channels", 0),
        ("border", "maybe"),
        ("arch", "unet3d"),
        ("precision", "float16"),
        ("weights_dtype", "int8"),
        ("limit", 0),
        ("workers", -1),
        ("samples", -1),
        ("checkpoint_every", 0),
        ("out", Path("runs/12:30")),
    ],
)
def test_an_option_that_cannot_work_is_named_with_its_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**{option: value})
    assert str(caught.value).startswith(f"--{option.replace('_', '-')} {value}: ")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("encoder_lr", 0.0),
        ("encoder_lr", -1.0),
        ("weight_decay", -0.1),
        ("warmup_steps", -1),
        ("schedule", "cosine"),
        ("optimizer", "sgd"),
    ],
)
def test_a_recipes_choice_that_cannot_work_is_named_with_its_value(
    option: str, value: object
) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(**{option: value})
    assert str(caught.value).startswith(f"--{option.replace('_', '-')} {value}: ")


@pytest.mark.parametrize("seed", [2**64, -(2**64)])
def test_a_seed_that_torch_cannot_take_is_named(seed: int) -> None:
    with pytest.raises(ConfigError, match="--seed"):
        config(seed=seed)


def test_an_unknown_architecture_lists_the_choices() -> None:
    with pytest.raises(ConfigError) as caught:
        config(arch="unet3d")
    assert all(name in str(caught.value) for name in list_architectures())


def test_a_configuration_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().epochs = 3  # type: ignore[misc]


def test_the_saved_configuration_holds_every_option() -> None:
    content = json.loads(config(init=Path("a.pth"), limit=5).to_json())
    assert content.keys() == {field.name for field in dataclasses.fields(FitConfig)}
    assert (content["init"], content["limit"], content["out"]) == ("a.pth", 5, "run")
    assert content["recipe"]["optimizer"] == "adam"


def saved(made: FitConfig) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(made.to_json())
    return content


def test_the_same_options_do_not_differ() -> None:
    assert config().differences(saved(config())) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("arch", "unet_resnet50"),
        ("batch_size", 3),
        ("image_size", 64),
        ("base_channels", 8),
        ("seed", 1),
        ("limit", 4),
        ("border", "ignore"),
        ("train_split", "trainval"),
        ("val_split", "test"),
        ("precision", "bfloat16"),
    ],
)
def test_an_option_that_decides_the_weights_is_named_with_both_values(
    option: str, value: object
) -> None:
    before = config()
    differences = config(**{option: value}).differences(saved(before))
    expected = f"--{option.replace('_', '-')} was {getattr(before, option)}, now {value}"
    assert differences == [expected]


@pytest.mark.parametrize(
    ("choice", "value"),
    [("lr", 0.5), ("optimizer", "adamw"), ("augment", True), ("weight_decay", 0.5)],
)
def test_a_choice_of_the_recipe_decides_the_weights(choice: str, value: object) -> None:
    assert len(recipe(**{choice: value}).differences(saved(config()))) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 2},
        {"device": "cpu"},
        {"out": Path("moved")},
        {"data": Path("moved")},
        {"samples": 1, "checkpoint_every": 1, "weights_dtype": "bfloat16"},
        {"resume": True},
    ],
)
def test_options_that_do_not_alter_the_weights_may_change(options: dict[str, Any]) -> None:
    assert config(**options).differences(saved(config())) == []


def test_more_epochs_go_on_under_a_constant_rate_only() -> None:
    assert config(epochs=80).differences(saved(config())) == []
    poly = RECIPES["finetune"]
    before = saved(config(recipe=poly))
    assert config(recipe=poly, epochs=80).differences(before) == ["--epochs was 40, now 80"]
