"""`predict`: masks for a folder of images, without a service."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from models import Checkpoint
from models.devices import choose_device
from models.errors import ModelError
from models.pixels import open_image, rgb_pixels
from models.segmentation import forward_for, segment_image
from trainer.data.dataset import IMAGE_SUFFIXES
from trainer.errors import DatasetError
from trainer.pictures.samples import indexed_image
from trainer.precision import Precision

PASS_PIXELS = 1 << 20  # network input pixels in one forward pass of tiles


def image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"--images {folder}: no such folder")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(f"--images {folder}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return files


def predict_folder(
    checkpoint: Checkpoint,
    files: list[Path],
    out: Path,
    *,
    device: str,
    on_image: Callable[[Path, str | None], None],
) -> int:
    """Writes an indexed PNG `<stem>.png` for every file and returns how many failed.

    A file that cannot be read is reported to `on_image` with the reason and left out; the others
    are still done.
    """
    _require_different_stems(files)
    if _real(out) in {_real(path).parent for path in files}:
        raise DatasetError(f"--out {out}: is the folder of the images, which masks would overwrite")
    precision = Precision(choose_device(device))
    spec = checkpoint.manifest.input
    batch_size = max(1, PASS_PIXELS // (spec.height * spec.width))
    class_set = checkpoint.manifest.class_set()
    # in memory as the service has it: the arithmetic is then the same
    network = checkpoint.network.to(precision.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    forward = forward_for(network)
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in files:
        try:
            pixels = _pixels(path)
        except (DatasetError, ModelError) as error:
            failed += 1
            on_image(path, str(error))
            continue
        segmentation = segment_image(
            pixels, spec, forward, device=precision.device, batch_size=batch_size
        )
        indexed_image(segmentation.labels.cpu(), class_set).save(out / f"{path.stem}.png")
        on_image(path, None)
    return failed


def _real(path: Path) -> Path:
    """Path.resolve, which raises where a link leads to itself."""
    return Path(os.path.realpath(path))


def _pixels(path: Path) -> Tensor:
    """uint8 (3, H, W), upright."""
    if not path.is_file():  # reading a pipe would wait for ever
        raise DatasetError("is no file")
    with open_image(path) as image:
        return rgb_pixels(image)


def _require_different_stems(files: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in files:
        if path.stem in seen:
            raise DatasetError(
                f"{seen[path.stem].name} and {path.name} would both become {path.stem}.png"
            )
        seen[path.stem] = path
