"""OpenVINO: `NAME.xml` and its weights `NAME.bin`, in float32 or quantised to int8."""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from models import Checkpoint
from models.calibration import quantised
from models.exported import RUNTIME_INFO
from models.network import Forward
from trainer.export.packages import load_package, quiet
from trainer.export.record import metadata
from trainer.export.to_onnx import write_onnx


def write_openvino(checkpoint: Checkpoint, path: Path) -> None:
    _save(_converted(checkpoint, "openvino"), checkpoint, path, wanted_by="openvino")


def write_int8(checkpoint: Checkpoint, path: Path, images: Iterable[Tensor], count: int) -> None:
    """Post-training quantisation; `images` are `count` network inputs, (1, C, h, w) each, from
    whose activations the ranges are taken."""
    load_package("nncf", wanted_by="openvino-int8")
    model = _converted(checkpoint, "openvino-int8")
    with quiet():
        int8 = quantised(model, images, count)
    _save(int8, checkpoint, path, wanted_by="openvino-int8")


def load_openvino(path: Path) -> Forward:
    """Compiled for the CPU; float32 wherever the file does not say int8."""
    openvino = load_package("openvino", wanted_by="openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def forward(images: Tensor) -> Tensor:
        # a copy, because the runtime reuses its output buffer in the next call
        return torch.tensor(compiled(images.contiguous().numpy())[0])

    return forward


def _converted(checkpoint: Checkpoint, wanted_by: str) -> Any:
    """An OpenVINO model by way of ONNX, which keeps every size open."""
    openvino = load_package("openvino", wanted_by=wanted_by)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps it mapped
        path = Path(folder) / "network.onnx"
        write_onnx(checkpoint, path, wanted_by=wanted_by)
        with quiet():
            return openvino.Core().read_model(str(path))


def _save(model: Any, checkpoint: Checkpoint, path: Path, *, wanted_by: str) -> None:
    openvino = load_package("openvino", wanted_by=wanted_by)
    for key, value in metadata(checkpoint.manifest).items():
        model.set_rt_info(json.dumps(value), [RUNTIME_INFO, key])
    openvino.save_model(model, str(path), compress_to_fp16=False)
