"""Everything a run was asked to do, frozen, and written into its folder as `config.json`."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models import list_architectures
from models.manifest import Dtype, InputMode
from trainer.errors import ConfigError
from trainer.options import check_options, flag, option
from trainer.recipe import Recipe

# options that a resumed run may change: they do not alter the weights of an epoch, at most which
# epochs are measured and kept, and after which the run ends
FREE_ON_RESUME = frozenset(
    {"data", "out", "resume", "init", "encoder_weights", "device", "workers", "samples"}
    | {"checkpoint_every", "validate_every", "weights_dtype", "tensorboard", "early_stop", "report"}
)
MIN_SIDE, MAX_SIDE = 32, 4096


@dataclass(frozen=True)
class FitConfig:
    """Options of `fit`; a ConfigError names the option and the value that cannot work."""

    data: Path
    arch: str
    out: Path
    recipe: Recipe
    train_split: str = "train"
    val_split: str = "val"
    epochs: int = option(40, low=1, high=1_000_000)
    batch_size: int = option(16, "images in a step, of all processes together", low=1, high=65_536)
    image_size: str = option("256", "the network's input: 256, or height x width as in 360x480")
    crop_size: str | None = option(
        None, "random crops to train on, where they are not the whole input"
    )
    input_mode: InputMode = option(
        "resize",
        "images are resized to the input, or covered by tiles of its size at their own resolution",
        choices=("resize", "tile"),
    )
    base_channels: int = option(
        64, "width of the network; 64 is the published one", low=2, high=1024
    )
    border: str | None = option(
        None,
        "VOC's border: 'class' makes it the 22nd class, 'ignore' leaves it out",
        choices=("class", "ignore"),
    )
    init: Path | None = option(None, "checkpoint to start from")
    encoder_weights: str | None = option(
        None, "'imagenet', or a classifier's .pth, for the encoder"
    )
    resume: bool = False
    seed: int = option(0, low=-(1 << 63), high=(1 << 63) - 1)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps")
    precision: str = option(
        "auto",
        "bfloat16 where the hardware has it, or",
        choices=("auto", "float32", "bfloat16"),
    )
    compile: bool = option(False, "torch.compile the network: faster steps after a slow start")
    limit: int | None = option(
        None, "use only the first N images of each split", low=1, high=1 << 62
    )
    workers: int | None = option(
        None,
        "processes that prepare images, and as many more while validating; chosen by default",
        low=0,
        high=1024,
    )
    checkpoint_every: int = option(
        4, "epochs between kept checkpoints and sample pictures", low=1, high=1_000_000
    )
    validate_every: int = option(
        1, "epochs between validations; a kept checkpoint always has one", low=1, high=1_000_000
    )
    early_stop: int = option(
        0, "epochs without a better mean IoU after which to end; 0 is never", low=0, high=1_000_000
    )
    weights_dtype: Dtype = option(
        "float32",
        "precision of the stored weights",
        choices=("float32", "float16", "bfloat16"),
    )
    samples: int = option(
        8, "validation images drawn with each kept checkpoint", low=0, high=100_000
    )
    report: bool = option(True, "write report.html at the end")
    tensorboard: bool = option(
        False, "also write the figures for TensorBoard, into OUT/tensorboard"
    )

    def __post_init__(self) -> None:
        if self.arch not in list_architectures():
            choices = ", ".join(list_architectures())
            raise ConfigError(f"--arch {self.arch}: choose from {choices}")
        check_options(self)
        if self.crop_size is not None and self.input_mode == "tile":
            raise ConfigError(
                f"--crop-size {self.crop_size}: crops of --input-mode tile have the size of "
                "the tile, --image-size"
            )
        whole = self.input_size
        if any(crop > side for crop, side in zip(self.training_size, whole, strict=True)):
            raise ConfigError(
                f"--crop-size {self.crop_size}: larger than what it is cut from, "
                f"--image-size {self.image_size}"
            )
        if ":" in str(self.out):
            raise ConfigError(f"--out {self.out}: a run folder's name must not hold ':'")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input in serving."""
        return parse_size("image_size", self.image_size)

    @property
    def training_size(self) -> tuple[int, int]:
        """Height and width of a training image."""
        return parse_size("crop_size", self.crop_size) if self.crop_size else self.input_size

    def to_json(self) -> str:
        content = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return json.dumps(content, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "FitConfig":
        """What `to_json` wrote; a ConfigError if it is something else."""
        try:
            content = json.loads(text)
            content["recipe"] = Recipe(**content["recipe"])
            for name in ("data", "out", "init"):
                content[name] = None if content[name] is None else Path(content[name])
            return cls(**content)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"not the configuration of a run ({error})") from error

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """Options that decide the weights and differ from a saved configuration."""
        now = _flat(json.loads(self.to_json()))
        then = _flat(saved)
        # under a constant learning rate, more epochs only go further on the same way, but for the
        # warm-up: it is at most a tenth of the epochs that are known when a step is taken
        free = FREE_ON_RESUME | ({"epochs"} if self.recipe.schedule == "constant" else set())
        free |= {"precision"} if self.precision == "auto" else set()  # what it was settled to
        return [
            f"{flag(name)} was {then.get(name)}, now {value}"
            for name, value in now.items()
            if name not in free and then.get(name) != value
        ]


def parse_size(name: str, text: str) -> tuple[int, int]:
    """(height, width) from "256" or "360x480"."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if not found:
        raise ConfigError(f"{flag(name)} {text}: is neither a number nor HEIGHTxWIDTH")
    height, width = int(found[1]), int(found[2] or found[1])
    if not MIN_SIDE <= min(height, width) <= max(height, width) <= MAX_SIDE:
        raise ConfigError(f"{flag(name)} {text}: must lie in {MIN_SIDE}..{MAX_SIDE}")
    return height, width


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "recipe": config["recipe"]["name"], **config["recipe"], "name": None}
