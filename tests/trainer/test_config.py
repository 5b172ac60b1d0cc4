"""Options of `fit` and what they refuse."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from models import list_architectures
from trainer.config import FitConfig, parse_size
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
        ("image_size", "16"),
        ("image_size", "5000"),
        ("image_size", "64x16"),
        ("image_size", "5000x64"),
        ("image_size", "64x64x64"),
        ("image_size", "large"),
        ("image_size", "-64"),
        ("image_size", ""),
        ("crop_size", "64x"),
        ("crop_size", "8"),
        ("input_mode", "whole"),
        ("base_channels", 0),
        ("base_channels", 1),
        ("border", "maybe"),
        ("arch", "unet3d"),
        ("precision", "float16"),
        ("weights_dtype", "int8"),
        ("limit", 0),
        ("workers", -1),
        ("samples", -1),
        ("checkpoint_every", 0),
        ("validate_every", 0),
        ("early_stop", -1),
        ("out", Path("runs/12:30")),
    ],
)
def test_an_option_that_cannot_work_is_named_with_its_value(option: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**{option: value})
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
    assert content["recipe"] == dataclasses.asdict(RECIPES["report"])


@pytest.mark.parametrize(
    ("text", "size"),
    [("256", (256, 256)), ("360x480", (360, 480)), ("32", (32, 32)), ("4096x32", (4096, 32))],
)
def test_a_size_is_one_number_or_height_by_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size("image_size", text) == size
    assert config(image_size=text).input_size == size
    assert config(image_size="4096", crop_size=text).training_size == size


@pytest.mark.parametrize("crop_size", ["65", "64x97", "65x96"])
def test_a_crop_larger_than_the_image_would_be_padding(crop_size: str) -> None:
    with pytest.raises(ConfigError, match=f"--crop-size {crop_size}: larger .* 64x96"):
        config(image_size="64x96", crop_size=crop_size)


def test_without_a_crop_size_training_sees_the_whole_input() -> None:
    assert config(image_size="64x96").training_size == (64, 96)
    cropped = config(image_size="64x96", crop_size="48")
    assert (cropped.input_size, cropped.training_size) == ((64, 96), (48, 48))


def test_the_crops_of_tiles_are_tiles() -> None:
    assert config(input_mode="tile", image_size="64x96").training_size == (64, 96)
    with pytest.raises(ConfigError, match="--crop-size 48: crops of --input-mode tile"):
        config(input_mode="tile", crop_size="48")


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
        ("image_size", "64"),
        ("crop_size", "64"),
        ("base_channels", 8),
        ("seed", 1),
        ("compile", True),
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
    [
        ("lr", 0.5),
        ("optimizer", "adamw"),
        ("augment", True),
        ("ema_decay", 0.5),
        ("freeze_batch_norm", True),
    ],
)
def test_a_choice_of_the_recipe_decides_the_weights(choice: str, value: object) -> None:
    before = getattr(RECIPES["report"], choice)
    expected = f"--{choice.replace('_', '-')} was {before}, now {value}"
    assert recipe(**{choice: value}).differences(saved(config())) == [expected]


def test_another_recipe_is_named_with_all_that_it_changes() -> None:
    differences = config(recipe=RECIPES["standard"]).differences(saved(config()))
    assert "--recipe was report, now standard" in differences
    assert "--ema-decay was 0.0, now 0.999" in differences
    assert not [line for line in differences if "--name" in line or "None" in line]


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 2},
        {"device": "cpu"},
        {"out": Path("moved")},
        {"data": Path("moved")},
        {"samples": 1, "checkpoint_every": 1, "weights_dtype": "bfloat16"},
        {"resume": True},
        {"early_stop": 3, "tensorboard": True},
    ],
)
def test_options_that_do_not_alter_the_weights_may_change(options: dict[str, Any]) -> None:
    assert config(**options).differences(saved(config())) == []


def test_more_epochs_go_on_under_a_constant_rate_only() -> None:
    assert config(epochs=80).differences(saved(config())) == []
    poly = RECIPES["standard"]
    before = saved(config(recipe=poly))
    assert config(recipe=poly, epochs=80).differences(before) == ["--epochs was 40, now 80"]
