"""Recipes: named sets of training choices, each of which an option can override."""

from dataclasses import dataclass, replace

from trainer.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """How weights are updated and images varied. `encoder_lr` None is the same as `lr`."""

    name: str
    optimizer: str
    lr: float
    encoder_lr: float | None
    weight_decay: float
    schedule: str
    warmup_steps: int
    augment: bool


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # the original system: Adam, cross entropy, one learning rate, images as they are
        Recipe(
            name="report",
            optimizer="adam",
            lr=1e-3,
            encoder_lr=None,
            weight_decay=0.0,
            schedule="constant",
            warmup_steps=0,
            augment=False,
        ),
        # a pretrained encoder moves in small steps, the fresh decoder in large ones
        Recipe(
            name="finetune",
            optimizer="adamw",
            lr=2e-3,
            encoder_lr=3e-4,
            weight_decay=1e-2,
            schedule="poly",
            warmup_steps=100,
            augment=True,
        ),
    )
}


def choose_recipe(name: str, overrides: dict[str, object]) -> Recipe:
    """The named recipe with every override that is not None."""
    if name not in RECIPES:
        raise ConfigError(f"--recipe {name}: choose from {', '.join(RECIPES)}")
    given = {key: value for key, value in overrides.items() if value is not None}
    return replace(RECIPES[name], **given)  # type: ignore[arg-type]
