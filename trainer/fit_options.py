"""The command-line options of `fit`, made from the fields of its configuration and recipe."""

import inspect
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from models import list_architectures
from trainer.config import FitConfig
from trainer.options import flag, help_of
from trainer.path_option import path_option
from trainer.recipe import RECIPES, Recipe, choose_recipe

Command = TypeVar("Command", bound=Callable[..., None])

RECIPE_FIELDS = tuple(field for field in fields(Recipe) if field.name != "name")
REQUIRED = {
    "data": "dataset folder in the layout of Pascal VOC",
    "arch": ", ".join(list_architectures()),
    "out": "run folder; made if absent",
}


def takes_fit_options(command: Command) -> Command:
    """Gives a function of keyword arguments the signature that typer turns into options."""
    parameters = [
        _parameter(name, Path if name != "arch" else str, inspect.Parameter.empty, explanation)
        for name, explanation in REQUIRED.items()
    ]
    parameters.append(_parameter("recipe", str, next(iter(RECIPES)), ", ".join(RECIPES)))
    hints = get_type_hints(FitConfig)
    parameters += [
        _parameter(field.name, hints[field.name], field.default, help_of(field))
        for field in fields(FitConfig)
        if field.default is not MISSING
    ]
    hints = get_type_hints(Recipe)
    parameters += [
        _parameter(field.name, hints[field.name] | None, None, _recipe_help(field))
        for field in RECIPE_FIELDS
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def fit_config(options: dict[str, Any]) -> FitConfig:
    """The configuration that the parsed options mean."""
    given = dict(options)
    overrides = {field.name: given.pop(field.name) for field in RECIPE_FIELDS}
    return FitConfig(**{**given, "recipe": choose_recipe(given["recipe"], overrides)})


def _parameter(name: str, kind: Any, default: Any, explanation: str) -> inspect.Parameter:
    annotation = _plain(kind)
    # what is off by default needs no --no-..., a recipe's choice and what is on do
    names = [flag(name)] if kind is bool and default is False else []
    takes_path = Path in (annotation, *get_args(annotation))
    made = path_option(explanation) if takes_path else typer.Option(*names, help=explanation)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, made],
    )


def _plain(kind: Any) -> Any:
    """Literals are taken as text: their own check names the option in this project's words."""
    if get_origin(kind) is Literal:
        return str
    if get_origin(kind) in (Union, types.UnionType):
        inner = [_plain(part) for part in get_args(kind) if part is not type(None)]
        return inner[0] | None
    return kind


def _recipe_help(field: Field[Any]) -> str:
    values = ", ".join(f"{name} {getattr(recipe, field.name)}" for name, recipe in RECIPES.items())
    return f"{help_of(field)} ({values})"
