"""Where an int8 network comes from: the trainer's export, the cache, or images to calibrate on."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from models import Checkpoint
from models.calibration import input_count, network_inputs, quantised
from models.exported import checkpoint_sha256, is_int8
from models.manifest import InputSpec
from models.pixels import open_image, rgb_pixels, upright_size
from models.private_import import import_private
from service.engines.golden import image_files
from service.engines.openvino_engine import convert, read

logger = logging.getLogger(__name__)

MAX_IMAGES = 300


class NotCalibratedError(Exception):
    """There is no int8 network for this checkpoint, and nothing to make one of."""


def int8_model(
    checkpoint: Checkpoint, exports: Path | None, cache: Path | None, images: Path | None
) -> Any:
    """An OpenVINO model with int8 activations and weights, made once for every checkpoint."""
    found = find_int8(checkpoint, exports, cache)
    if found is not None:
        if images is not None:
            logger.info("calibrated before: %s is not needed", images)
        return found
    if images is None:
        raise NotCalibratedError(
            "not calibrated for this checkpoint; name images of its kind with "
            "--calibration-images, or put the trainer's export beside it"
        )
    paths = image_files(images)[:MAX_IMAGES]
    if not paths:
        raise NotCalibratedError(f"--calibration-images {images} holds no image")
    logger.info("calibrating int8 on %d images of %s; done once", len(paths), images)
    inputs = _Inputs(paths, checkpoint.manifest.input)
    model = quantised(convert(checkpoint.network), inputs, inputs.count)
    _keep(model, checkpoint, cache)
    return model


def find_int8(checkpoint: Checkpoint, exports: Path | None, cache: Path | None) -> Any | None:
    """One that exists already, known by the checkpoint's hash; None where there is none. Files in
    `exports` only say whose they are, so none is named where that is not to be believed."""
    digest = _digest(checkpoint)
    if digest is None:
        return None
    for path in sorted(exports.glob("**/*.xml")) if exports else []:
        with contextlib.suppress(RuntimeError):  # some other program's file
            model = read(path)
            if checkpoint_sha256(model) == digest and is_int8(model):
                logger.info("int8 from %s", path.name)
                return model
    kept = _kept(checkpoint, cache)
    if kept is not None and kept.exists():
        with contextlib.suppress(RuntimeError):  # a disk that was full when it was written
            model = read(kept)
            logger.info("int8 from %s", kept)
            return model
    return None


class _Inputs(Iterable[Tensor]):
    """What images become, read anew in every pass over them: hundreds would fill the memory."""

    def __init__(self, paths: list[Path], spec: InputSpec) -> None:
        self._paths = paths
        self._spec = spec
        self.count = sum(input_count(*self._size(path), spec) for path in paths)

    def __iter__(self) -> Iterator[Tensor]:
        for path in self._paths:
            with open_image(path) as image:
                pixels = rgb_pixels(image)
            yield from network_inputs(pixels, self._spec)

    def _size(self, path: Path) -> tuple[int, int]:
        with open_image(path) as image:
            return upright_size(image)


def _keep(model: Any, checkpoint: Checkpoint, cache: Path | None) -> None:
    path = _kept(checkpoint, cache)
    if path is None:
        return
    waiting = path.with_name(f"{path.stem}.{os.getpid()}.xml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        import_private("openvino").save_model(model, waiting, compress_to_fp16=False)
        waiting.with_suffix(".bin").replace(path.with_suffix(".bin"))
        waiting.replace(path)
    except (OSError, RuntimeError) as error:
        logger.warning("%s cannot be kept, the next start calibrates again: %s", path, error)
        for part in (waiting, waiting.with_suffix(".bin")):
            with contextlib.suppress(OSError):
                part.unlink()


def _kept(checkpoint: Checkpoint, cache: Path | None) -> Path | None:
    """What was calibrated depends on the weights and on what becomes of an image before them."""
    digest = _digest(checkpoint)
    if digest is None or cache is None:
        return None
    preparation = sha256(checkpoint.manifest.input.model_dump_json().encode()).hexdigest()[:8]
    return cache / f"{digest}-{preparation}-int8-openvino-{version('openvino')}.xml"


def _digest(checkpoint: Checkpoint) -> str | None:
    weights = checkpoint.manifest.weights
    return weights.sha256 if weights else None
