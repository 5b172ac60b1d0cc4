"""The ground floor: what a network, a class set and a checkpoint are, and the geometry between an
image and a network's input. `trainer` and `service` import from here, never the other way."""

from models import (  # noqa: F401 - registration
    unet,
    unet_efficientnet_lite0,
    unet_resnet50,
    unet_resnet50_full,
)
from models.architectures import build, list_architectures
from models.checkpoint import (
    Checkpoint,
    ListedCheckpoint,
    inspect_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from models.errors import CheckpointError, ClassSetError, ModelError, PixelsError
from models.manifest import Manifest

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ClassSetError",
    "ListedCheckpoint",
    "Manifest",
    "ModelError",
    "PixelsError",
    "build",
    "inspect_checkpoint",
    "list_architectures",
    "list_checkpoints",
    "load_checkpoint",
    "save_checkpoint",
]
