"""The gate: a faster engine must say what float32 says on pictures that do not change."""

import io
import time
from math import inf
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from models.geometry import resize_pixels
from models.manifest import InputSpec
from models.pixels import FORMATS, open_image, rgb_pixels
from models.winners import winners
from service.engines.engine import Engine, Jpeg
from service.errors import StartupError

PICTURES = Path(__file__).parent / "golden"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
MAX_PICTURES = 16
LEAST_PICTURES = 2
JPEG_QUALITY = 90  # as cameras have it; colours at half the size, where decoders differ most


def golden_inputs(folder: Path | None, spec: InputSpec) -> Tensor:
    """uint8 (N, 3, h, w): the pictures of a folder at the network's size, those that come with
    the service where none is named."""
    pictures = []
    for path in _golden_files(folder):
        with open_image(path) as image:
            pictures.append(resize_pixels(rgb_pixels(image), spec.height, spec.width))
    return torch.stack(pictures)


def golden_jpegs(folder: Path | None, spec: InputSpec) -> tuple[list[Jpeg], Tensor]:
    """The same pictures written as JPEGs, and what the service makes of these by itself, uint8
    (N, 3, h, w)."""
    jpegs, pictures = [], []
    for path in _golden_files(folder):
        with open_image(path) as image:
            pixels = rgb_pixels(image).permute(1, 2, 0).numpy()
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=JPEG_QUALITY)
        jpegs.append(Jpeg(stream.getvalue(), *pixels.shape[:2]))
        with open_image(jpegs[-1].content) as image:
            pictures.append(resize_pixels(rgb_pixels(image), spec.height, spec.width))
    return jpegs, torch.stack(pictures)


def _golden_files(folder: Path | None) -> list[Path]:
    paths = image_files(folder or PICTURES)[:MAX_PICTURES]
    if not paths:
        raise StartupError(f"--golden-images {folder}: no image ({', '.join(FORMATS)})")
    return paths


def image_files(folder: Path) -> list[Path]:
    """By name; StartupError where there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise StartupError(f"{folder}: {error.strerror or error}") from error


class NotFiniteError(RuntimeError):
    """A network that computes infinities or nothing that is a number."""


def labels_of(engine: Engine, inputs: Tensor, *, enough_s: float = inf) -> Tensor:
    """uint8 (n, h, w), one pass an image: what a batch changes is the engine's to keep small. n is
    N, or at least 2 where more would begin after so many seconds. NotFiniteError where the
    probabilities are no numbers."""
    labels: list[Tensor] = []
    began = time.perf_counter()
    for image in inputs:
        if len(labels) >= LEAST_PICTURES and time.perf_counter() - began > enough_s:
            break
        probabilities = engine.run(image[None], alone=True)[0].float().softmax(0)
        if not probabilities.isfinite().all():
            raise NotFiniteError("the network's answers are not finite numbers, are its weights?")
        labels.append(winners(probabilities)[1].cpu())
    return torch.stack(labels)


def agreement(labels: Tensor, reference: Tensor) -> float:
    """The share of pixels with the same class."""
    return float((labels == reference).float().mean())
