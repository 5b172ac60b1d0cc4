"""Recipes: named sets of training choices, each of which an option can override."""

from dataclasses import dataclass, replace

from trainer.errors import ConfigError
from trainer.options import check_options, option


@dataclass(frozen=True)
class Recipe:
    """How weights are updated and images varied; the defaults are the recipe `standard`."""

    name: str
    optimizer: str = option("adamw", "update rule", choices=("adam", "adamw"))
    lr: float = option(2e-3, "learning rate", low=1e-12, high=100)
    encoder_lr_factor: float = option(
        0.1, "times the learning rate, for an encoder that was pretrained", low=1e-6, high=100
    )
    weight_decay: float = option(1e-2, "not for norms and biases", low=0, high=10)
    schedule: str = option(
        "poly",
        "of the learning rate; a resumed run may be given more --epochs under a constant one",
        choices=("constant", "poly", "cosine"),
    )
    warmup_steps: int = option(100, "linear, at most a tenth of all steps", low=0, high=1 << 62)
    clip_norm: float = option(1.0, "largest norm of the gradient; 0 is off", low=0, high=1e9)
    ema_decay: float = option(
        0.999,
        "of the moving average of the weights, which is what is kept; 0 is off",
        low=0,
        high=0.999999,
    )
    freeze_batch_norm: bool = option(False, "use batch statistics as they are, do not learn them")
    loss: str = option("cross_entropy", "for each pixel", choices=("cross_entropy", "focal"))
    dice_weight: float = option(1.0, "of the Dice loss beside it; 0 is off", low=0, high=1000)
    ohem_fraction: float = option(
        1.0, "hardest share of each image's pixels that counts", low=0.001, high=1
    )
    class_weights: str = option("none", "of the pixel loss", choices=("none", "median_frequency"))
    augment: bool = option(True, "vary images at random; off switches off all that follows")
    scale_min: float = option(0.7, "smallest random scale", low=0.05, high=20)
    scale_max: float = option(1.75, "largest random scale", low=0.05, high=20)
    stretch: float = option(1.2, "largest change of the aspect ratio", low=1, high=4)
    flip: float = option(0.5, "share of images mirrored left to right", low=0, high=1)
    rotation: float = option(10.0, "largest angle of three in ten images, degrees", low=0, high=180)
    color: float = option(0.3, "change of brightness, contrast and saturation", low=0, high=1)
    blur: float = option(0.1, "share of images blurred", low=0, high=1)

    def __post_init__(self) -> None:
        check_options(self)
        if self.scale_min > self.scale_max:
            raise ConfigError(
                f"--scale-min {self.scale_min}: is above --scale-max {self.scale_max}"
            )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="standard"),
        # the original system: Adam, cross entropy, one learning rate, images as they are
        Recipe(
            name="report",
            optimizer="adam",
            lr=1e-3,
            encoder_lr_factor=1.0,
            weight_decay=0.0,
            schedule="constant",
            warmup_steps=0,
            clip_norm=0.0,
            ema_decay=0.0,
            dice_weight=0.0,
            augment=False,
        ),
    )
}


def choose_recipe(name: str, overrides: dict[str, object]) -> Recipe:
    """The named recipe with every override that is not None."""
    if name not in RECIPES:
        raise ConfigError(f"--recipe {name}: choose from {', '.join(RECIPES)}")
    given = {key: value for key, value in overrides.items() if value is not None}
    return replace(RECIPES[name], **given)  # type: ignore[arg-type]
