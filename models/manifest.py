"""The JSON beside a checkpoint: everything needed to use its weights, and where they came from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.classes import ClassSet, SegmentationClass
from models.errors import CheckpointError, ClassSetError
from models.regular import open_regular

MAX_MANIFEST_BYTES = 4 * 1024 * 1024

Channel = Annotated[int, Field(ge=0, le=255)]
PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ManifestClass(_Part):
    id: Annotated[int, Field(ge=0, le=254)]
    name: str
    color: tuple[Channel, Channel, Channel]


InputMode = Literal["resize", "tile"]


class InputSpec(_Part):
    """How an image becomes a network's input; `mean` and `std` are fractions of full scale.

    `resize` stretches the whole image to height x width; `tile` slides a window of that size over
    the image at its own resolution, neighbours sharing at least the fraction `overlap` of a tile.
    """

    mode: InputMode = "resize"
    height: Annotated[int, Field(ge=8, le=4096)] = 256
    width: Annotated[int, Field(ge=8, le=4096)] = 256
    overlap: Annotated[float, Field(ge=0, le=0.5)] = 0.25
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    stride: PositiveInt

    @model_validator(mode="after")
    def _same_channels(self) -> "InputSpec":
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels, std {len(self.std)}")
        return self


class Metrics(_Part):
    """Figures of one evaluation; the IoU of a class that never occurs is None, and so is what was
    not measured."""

    dataset: str
    split: str
    images: int
    pixel_accuracy: Fraction | None
    mean_iou: Fraction | None
    per_class_iou: dict[str, Fraction | None]
    mean_dice: Fraction | None = None
    mean_boundary_iou: Fraction | None = None
    loss: float | None = None


class TrainingRecord(_Part):
    epoch: int
    step: int
    seed: int
    dataset_fingerprint: str
    command: str
    versions: dict[str, str]
    started: str
    saved: str
    images_seen: int
    resumed_by: str | None = None  # the last command, of a run that was resumed
    processes: int = 1  # that trained together, under the last command


Dtype = Literal["float32", "float16", "bfloat16"]


class WeightsFile(_Part):
    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: PositiveInt
    dtype: Dtype


class Arguments(_Part):
    num_classes: PositiveInt
    base_channels: PositiveInt = 64
    in_channels: PositiveInt = 3


class Manifest(_Part):
    format: Literal[1] = 1
    name: str
    architecture: str
    arguments: Arguments
    classes: tuple[ManifestClass, ...]
    ignore_index: int = 255
    input: InputSpec
    metrics: Metrics | None = None
    training: TrainingRecord | None = None
    weights: WeightsFile | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if len(self.classes) != self.arguments.num_classes:
            raise ValueError(
                f"{len(self.classes)} classes are named, num_classes is "
                f"{self.arguments.num_classes}"
            )
        if len(self.input.mean) != self.arguments.in_channels:
            raise ValueError(
                f"input.mean has {len(self.input.mean)} values, in_channels is "
                f"{self.arguments.in_channels}"
            )
        try:
            self.class_set()
        except ClassSetError as error:
            raise ValueError(str(error)) from error
        return self

    def class_set(self) -> ClassSet:
        return ClassSet(
            tuple(SegmentationClass(c.id, c.name, c.color) for c in self.classes),
            self.ignore_index,
        )


def manifest_classes(class_set: ClassSet) -> tuple[ManifestClass, ...]:
    return tuple(ManifestClass(id=c.id, name=c.name, color=c.color) for c in class_set.classes)


def read_manifest(path: Path) -> Manifest:
    """Parses and checks a manifest; the complaint names the file and the field."""
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise CheckpointError(f"{path.name}: larger than {MAX_MANIFEST_BYTES} bytes")
        return Manifest.model_validate_json(content)
    except OSError as error:
        raise CheckpointError(f"{path.name}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "content"
        raise CheckpointError(f"{path.name}: {field}: {first['msg']}") from error
