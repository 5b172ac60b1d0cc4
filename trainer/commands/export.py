"""`export`: a checkpoint in a format that other programs run."""

import logging
from pathlib import Path

from models import Checkpoint, load_checkpoint
from trainer.commands.evaluate import border_of
from trainer.console import plain_console
from trainer.data.dataset import VocFolder
from trainer.evaluation.evaluate import require_same_classes
from trainer.export.formats import choose_format
from trainer.export.run import Exported, ExportImages, export_checkpoint
from trainer.progress import Reporter
from trainer.wording import counted

logger = logging.getLogger(__name__)


def export(
    checkpoint_path: Path,
    format_name: str,
    out: Path,
    *,
    data: Path | None,
    split: str,
    border: str | None,
    limit: int | None,
    calibration_split: str,
    calibration_images: int,
    min_agreement: float | None,
    max_iou_drop: float | None,
) -> None:
    form = choose_format(format_name, out)
    checkpoint = load_checkpoint(checkpoint_path)
    images = None
    if data is not None:
        folder = _open(data, checkpoint, border, name=str(checkpoint_path))
        images = ExportImages(folder, split, limit, calibration_split, calibration_images)
    elif form.write is not None:
        logger.warning("without --data the file is compared on noise, not on photographs")
    with Reporter(plain_console(stderr=True)) as reporter:
        exported = export_checkpoint(
            checkpoint,
            form,
            out,
            images,
            reporter,
            min_agreement=min_agreement,
            max_iou_drop=max_iou_drop,
        )
    _show(exported)


def _open(data: Path, checkpoint: Checkpoint, border: str | None, *, name: str) -> VocFolder:
    num_classes = checkpoint.manifest.arguments.num_classes
    folder = VocFolder.open(data, border=border or border_of(num_classes, data))
    require_same_classes(checkpoint.manifest, folder, name=name)
    return folder


def _show(exported: Exported) -> None:
    console = plain_console(soft_wrap=True)
    agreement = exported.agreement
    line = f"{counted(agreement.images, 'image')}: pixel agreement {agreement.pixel_agreement:.5f}"
    if agreement.iou_drop is not None:
        line += (
            f", mean IoU {agreement.mean_iou_checkpoint:.4f} in the checkpoint, "
            f"{agreement.mean_iou_exported:.4f} exported"
        )
    console.print(f"{line}, relative logit error {agreement.logit_error:.2g}")
    for path in exported.files:
        console.print(f"{path}  {path.stat().st_size:,} bytes")
