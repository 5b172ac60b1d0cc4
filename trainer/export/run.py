"""One export: written beside its place, read back, compared, and only then put there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from models import Checkpoint
from models.errors import ModelError
from models.network import Forward
from trainer.data.dataset import VocFolder
from trainer.errors import ConfigError, ExportError, TrainerError
from trainer.export.agreement import Agreement, Thresholds, compare
from trainer.export.formats import ExportFormat
from trainer.export.images import (
    NOISE_IMAGES,
    CalibrationInputs,
    calibration_ids,
    noise_items,
    split_items,
)
from trainer.export.publish import put_in_place, workshop
from trainer.export.record import describe_export
from trainer.export.to_openvino import write_int8
from trainer.progress import Reporter


@dataclass(frozen=True)
class ExportImages:
    """The labelled images of an export; at most `limit` of `split` are compared."""

    folder: VocFolder
    split: str = "val"
    limit: int | None = None
    calibration_split: str = "train"
    calibration_images: int = 300


@dataclass(frozen=True)
class Exported:
    """What was accepted: the files, `out` last, and the figures it was accepted on."""

    files: list[Path]
    agreement: Agreement


def export_checkpoint(
    checkpoint: Checkpoint,
    form: ExportFormat,
    out: Path,
    images: ExportImages | None,
    reporter: Reporter,
    *,
    min_agreement: float | None = None,
    max_iou_drop: float | None = None,
) -> Exported:
    """Writes `out` and `out`.json, or raises an ExportError and leaves what stood there.

    Without `images` the comparison runs on noise, which an int8 file cannot be made from.
    """
    thresholds = _thresholds(form, min_agreement, max_iou_drop)
    if form.write is None and images is None:
        raise ConfigError(f"--format {form.name}: needs --data, whose images calibrate it")
    ids = images.folder.split(images.split)[: images.limit] if images is not None else []
    with workshop(out) as written:
        with _refusing(out.name, f"{checkpoint.manifest.architecture} cannot be written"):
            calibration = _write(checkpoint, form, written, images, reporter)
        reporter.begin("comparing", total=len(ids) if images is not None else NOISE_IMAGES)
        agreement = _compare(checkpoint, form, written, images, ids, reporter)
        agreement.require(thresholds, name=str(out))
        record = describe_export(
            checkpoint.manifest,
            sorted(written.parent.iterdir()),
            format_name=form.name,
            agreement=agreement.record(thresholds, _source(images)),
            calibration=calibration,
        )
        # after the whole name: NAME.json may be the manifest of the checkpoint itself
        beside = written.with_name(f"{written.name}.json")
        beside.write_text(json.dumps(record, indent=1), encoding="utf-8")
        return Exported(put_in_place(written, out), agreement)


def _thresholds(
    form: ExportFormat, min_agreement: float | None, max_iou_drop: float | None
) -> Thresholds:
    limits = form.thresholds
    if min_agreement is not None:
        limits = replace(limits, min_agreement=min_agreement)
    if max_iou_drop is not None:
        limits = replace(limits, max_iou_drop=max_iou_drop)
    return limits


def _write(
    checkpoint: Checkpoint,
    form: ExportFormat,
    path: Path,
    images: ExportImages | None,
    reporter: Reporter,
) -> dict[str, Any] | None:
    """Writes the file; returns what it was calibrated on, None where nothing was needed."""
    if form.write is not None or images is None:
        reporter.begin(f"writing {form.name}", total=1)
        if form.write is not None:
            form.write(checkpoint, path)
        return None
    ids = calibration_ids(images.folder, images.calibration_split, images.calibration_images)
    inputs = CalibrationInputs(images.folder, ids, checkpoint.manifest.input, reporter)
    write_int8(checkpoint, path, inputs, len(inputs))
    dataset, split = images.folder.root.resolve().name, images.calibration_split
    return {"dataset": dataset, "split": split, "images": len(ids), "inputs": len(inputs)}


def _compare(
    checkpoint: Checkpoint,
    form: ExportFormat,
    written: Path,
    images: ExportImages | None,
    ids: list[str],
    reporter: Reporter,
) -> Agreement:
    spec = checkpoint.manifest.input
    items = noise_items(spec) if images is None else split_items(images.folder, ids)
    exported = _runnable(form, written)

    def on_image() -> None:
        reporter.advance(1)

    return compare(
        checkpoint.network,
        exported,
        items,
        spec,
        checkpoint.manifest.class_set(),
        on_image=on_image,
    )


def _runnable(form: ExportFormat, path: Path) -> Forward:
    """The file as read back; whatever a runtime raises becomes an ExportError."""
    with _refusing(path.name, "it cannot be read back"):
        run = form.load(path)

    def forward(images: Tensor) -> Tensor:
        with _refusing(path.name, f"it does not run on {tuple(images.shape)}"):
            return run(images)

    return forward


@contextmanager
def _refusing(name: str, what: str) -> Iterator[None]:
    """Exporters and runtimes raise anything; the user gets the first line of it."""
    try:
        yield
    except (TrainerError, ModelError, OSError):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{name}: refused, {what}: {reason}") from error


def _source(images: ExportImages | None) -> str:
    if images is None:
        return "noise"
    return f"{images.folder.root.resolve().name}, split {images.split}"
