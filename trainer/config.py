"""Everything a run was asked to do, frozen, and written into its folder as `config.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models import list_architectures
from models.manifest import Dtype
from trainer.errors import ConfigError
from trainer.recipe import Recipe

# options that a resumed run may change: they do not alter the weights it arrives at
FREE_ON_RESUME = frozenset(
    {"data", "out", "resume", "init", "encoder_weights", "device", "workers", "samples"}
    | {"checkpoint_every", "weights_dtype"}
)


@dataclass(frozen=True)
class FitConfig:
    """Options of `fit`; a ConfigError names the option and the value that cannot work."""

    data: Path
    arch: str
    out: Path
    recipe: Recipe
    train_split: str = "train"
    val_split: str = "val"
    epochs: int = 40
    batch_size: int = 16
    image_size: int = 256
    base_channels: int = 64
    border: str | None = None
    init: Path | None = None
    encoder_weights: str | None = None
    resume: bool = False
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    limit: int | None = None
    workers: int | None = None
    checkpoint_every: int = 4
    weights_dtype: Dtype = "float32"
    samples: int = 8

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_ranges()
        if ":" in str(self.out):
            raise ConfigError(f"--out {self.out}: a run folder's name must not hold ':'")

    def _check_choices(self) -> None:
        for name, value, allowed in (
            ("arch", self.arch, list_architectures()),
            ("border", self.border or "class", ["class", "ignore"]),
            ("precision", self.precision, ["auto", "float32", "bfloat16"]),
            ("weights-dtype", self.weights_dtype, ["float32", "float16", "bfloat16"]),
            ("optimizer", self.recipe.optimizer, ["adam", "adamw"]),
            ("schedule", self.recipe.schedule, ["constant", "poly"]),
        ):
            if value not in allowed:
                raise ConfigError(f"--{name} {value}: choose from {', '.join(allowed)}")

    def _check_ranges(self) -> None:
        for name, value, low, high in (
            ("epochs", self.epochs, 1, 1_000_000),
            ("batch-size", self.batch_size, 1, 65_536),
            ("image-size", self.image_size, 32, 4096),
            ("base-channels", self.base_channels, 2, 1024),
            ("checkpoint-every", self.checkpoint_every, 1, 1_000_000),
            ("limit", 1 if self.limit is None else self.limit, 1, 1 << 62),
            ("workers", self.workers or 0, 0, 1024),
            ("samples", self.samples, 0, 100_000),
            ("warmup-steps", self.recipe.warmup_steps, 0, 1 << 62),
            ("weight-decay", self.recipe.weight_decay, 0, 10),
            ("lr", self.recipe.lr, 1e-12, 100),
            ("encoder-lr", _or(self.recipe.encoder_lr, self.recipe.lr), 1e-12, 100),
            ("seed", self.seed, -(1 << 63), (1 << 63) - 1),
        ):
            if not low <= value <= high:
                raise ConfigError(f"--{name} {value}: must lie in {low}..{high}")

    def to_json(self) -> str:
        content = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return json.dumps(content, indent=1)

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """Options that decide the weights and differ from a saved configuration."""
        now = _flat(json.loads(self.to_json()))
        then = _flat(saved)
        # under a constant learning rate, more epochs only go further on the same way
        free = FREE_ON_RESUME | ({"epochs"} if self.recipe.schedule == "constant" else set())
        return [
            f"--{name.replace('_', '-')} was {then.get(name)}, now {value}"
            for name, value in now.items()
            if name not in free and then.get(name) != value
        ]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "recipe": config["recipe"]["name"], **config["recipe"], "name": None}
