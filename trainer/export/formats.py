"""The formats by name: what a file of each ends in, how it is read back, how exact it must be."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models import Checkpoint
from models.network import Forward
from trainer.errors import ConfigError
from trainer.export.agreement import Thresholds
from trainer.export.to_onnx import load_onnx, write_onnx
from trainer.export.to_openvino import load_openvino, write_openvino
from trainer.export.to_torch import load_torch, write_torch

# float32 arithmetic in another order moves a class only where two are as good as equal
EXACT = Thresholds(min_agreement=0.999, max_iou_drop=0.002, max_logit_error=1e-3)
QUANTISED = Thresholds(min_agreement=0.985, max_iou_drop=0.005, max_logit_error=0.25, may_gain=True)


@dataclass(frozen=True)
class ExportFormat:
    """`write` is None for the format that needs calibration images, `to_openvino.write_int8`."""

    name: str
    suffix: str
    write: Callable[[Checkpoint, Path], None] | None
    load: Callable[[Path], Forward]
    thresholds: Thresholds


FORMATS = {
    entry.name: entry
    for entry in (
        ExportFormat("onnx", ".onnx", write_onnx, load_onnx, EXACT),
        ExportFormat("openvino", ".xml", write_openvino, load_openvino, EXACT),
        ExportFormat("openvino-int8", ".xml", None, load_openvino, QUANTISED),
        ExportFormat("torch", ".pt2", write_torch, load_torch, EXACT),
    )
}


def choose_format(name: str, out: Path) -> ExportFormat:
    """Refuses an unknown name, and a file name that the format's readers would not take."""
    if name not in FORMATS:
        raise ConfigError(f"--format {name}: choose from {', '.join(FORMATS)}")
    chosen = FORMATS[name]
    if out.suffix != chosen.suffix:
        raise ConfigError(f"--out {out}: a file of --format {name} ends in {chosen.suffix}")
    for path in (out, out.with_name(f"{out.name}.json")):
        if path.is_dir():
            raise ConfigError(f"--out {out}: {path} is a folder, not a file")
    return chosen
