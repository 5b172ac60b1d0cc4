"""A network whose answers are known: the class of a pixel follows from its colour alone."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from models import Manifest, build, save_checkpoint
from models.classes import ClassSet, SegmentationClass
from models.manifest import Arguments, InputSpec, manifest_classes
from models.network import SegmentationNetwork

Pixels = NDArray[np.uint8]

SIDE = 32
SHARPNESS = 12.0
CLASSES = ClassSet(
    (
        SegmentationClass(0, "dark", (10, 20, 30)),
        SegmentationClass(1, "red", (250, 60, 50)),
        SegmentationClass(2, "green", (40, 220, 90)),
        SegmentationClass(3, "blue", (70, 80, 240)),
    )
)
THREE_MODELS = {"colours": "red", "other": "green", "third": "blue"}  # what each says of red
PAINT = np.array([(8, 8, 8), (240, 10, 10), (10, 230, 10), (10, 10, 250)], dtype=np.uint8)


def colour_network(*, shift: int = 0) -> SegmentationNetwork:
    """A `unet` that hands the colour of each pixel through its first skip connection.

    Logits: dark 0.5, red r-g-b, green g-r-b, blue b-r-g, times SHARPNESS, with r, g, b in 0..1;
    each of them given to the class that is `shift` further, so that answers tell who gave them.
    """
    network = build("unet", num_classes=len(CLASSES), base_channels=4)
    state = {
        key: torch.ones_like(value) if key.endswith("running_var") else torch.zeros_like(value)
        for key, value in network.state_dict().items()
    }
    for key in list(state):
        if key.endswith((".1.weight", ".4.weight")):  # the scales of batch norms
            state[key] = torch.ones_like(state[key])
    for channel in range(3):
        first = state["convDown1.0.weight"]
        first[channel, channel, 1, 1] = network.std[channel]  # undoes the normalisation
        state["convDown1.0.bias"][channel] = network.mean[channel]
        for key in ("convDown1.3.weight", "convUp1.0.weight", "convUp1.3.weight"):
            state[key][channel, channel, 1, 1] = 1.0
        head = state["convUp_fin.weight"]
        head[1:, channel, 0, 0] = -SHARPNESS
        head[channel + 1, channel, 0, 0] = SHARPNESS
    state["convUp_fin.bias"][0] = SHARPNESS / 2
    for key in ("convUp_fin.weight", "convUp_fin.bias"):
        state[key] = state[key].roll(shift, 0)
    network.load_state_dict(state)
    return network.eval()


def colour_manifest(*, height: int = SIDE, width: int = SIDE, **changes: Any) -> Manifest:
    network = colour_network()
    manifest = Manifest(
        name="unsaved",
        architecture="unet",
        arguments=Arguments(num_classes=len(CLASSES), base_channels=4),
        classes=manifest_classes(CLASSES),
        input=InputSpec(
            height=height,
            width=width,
            mean=network.mean,
            std=network.std,
            stride=network.stride,
        ),
    )
    return manifest.model_copy(update=changes)


def save_colours(path: Path, *, shift: int = 0, **changes: Any) -> Manifest:
    """The colour network and its manifest at `path`."""
    state = colour_network(shift=shift).state_dict()
    return save_checkpoint(path, state, colour_manifest(**changes))


@dataclass(frozen=True)
class Expected:
    """What a picture's answer must be, computed without the code under test; `clear` is False
    where two classes are so close that rounding decides between them."""

    labels: Pixels
    clear: NDArray[np.bool_]
    pixels: list[int]
    confidence: list[float]

    def agrees(self, labels: Pixels) -> bool:
        same = (labels == self.labels) | ~self.clear
        return labels.shape == self.labels.shape and bool(same.all())


def expected_answer(picture: Pixels, *, height: int = SIDE, width: int = SIDE) -> Expected:
    """`picture` uint8 (H, W, 3): resized, classified by colour, its probabilities resized back."""
    whole = torch.from_numpy(picture).permute(2, 0, 1)  # (3, H, W)
    small: Tensor = T.resize(whole, [height, width], antialias=True)
    red, green, blue = small.double() / 255
    logits = SHARPNESS * torch.stack(
        [torch.full_like(red, 0.5), red - green - blue, green - red - blue, blue - red - green]
    )  # (K, h, w)
    size = picture.shape[:2]
    small = logits.softmax(0)
    full = F.interpolate(small[None], size=size, mode="bilinear", align_corners=False)[0]
    best, labels = full.max(0)  # (H, W)
    first, second = full.topk(2, dim=0).values
    chosen = [labels == index for index in range(len(CLASSES))]
    return Expected(
        labels.numpy().astype(np.uint8),
        (first - second > 1e-4).numpy(),
        [int(mask.sum()) for mask in chosen],
        [float(best[mask].mean()) if bool(mask.any()) else 0.0 for mask in chosen],
    )


def tile_spec(manifest: Manifest, **changes: Any) -> InputSpec:
    return manifest.input.model_copy(update={"mode": "tile", **changes})


def picture_of(width: int, height: int, *, seed: int = 0) -> Pixels:
    """uint8 (H, W, 3): a random class's paint in each cell of a coarse grid."""
    random = np.random.default_rng((seed, width, height))
    rows = np.linspace(0, 4, height, endpoint=False).astype(int)
    columns = np.linspace(0, 3, width, endpoint=False).astype(int)
    cells = random.integers(0, len(CLASSES), (4, 3))
    painted: Pixels = PAINT[cells[rows][:, columns]]
    return painted


def plain(class_id: int, width: int, height: int) -> Pixels:
    """uint8 (H, W, 3) in one class's paint."""
    return np.broadcast_to(PAINT[class_id], (height, width, 3)).copy()


def encoded(picture: Pixels | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = BytesIO()
    image.save(stream, format=format, **options)
    return stream.getvalue()


def decoded(mask: bytes) -> Pixels:
    """The indices of a mask PNG, uint8 (H, W)."""
    with Image.open(BytesIO(mask)) as image:
        assert image.format == "PNG"
        assert image.mode == "P"
        return np.array(image)
