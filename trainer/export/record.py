"""What lies beside an exported file, so that it can be used without the checkpoint."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.exported import CHECKPOINT_SHA256
from models.manifest import Manifest
from trainer.training.provenance import library_versions, now

PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")


def metadata(manifest: Manifest) -> dict[str, Any]:
    """What a consumer must know of the network; also written into the formats that hold text."""
    return {
        "architecture": manifest.architecture,
        "classes": [entry.model_dump(mode="json") for entry in manifest.classes],
        "ignore_index": manifest.ignore_index,
        "input": manifest.input.model_dump(mode="json"),
        CHECKPOINT_SHA256: manifest.weights.sha256 if manifest.weights else None,
    }


def describe_export(
    manifest: Manifest,
    files: list[Path],
    *,
    format_name: str,
    agreement: dict[str, Any],
    calibration: dict[str, Any] | None,
) -> dict[str, Any]:
    """The content of `FILE.json`; the sizes of `tensors` are open where a name stands."""
    channels, classes = manifest.arguments.in_channels, manifest.arguments.num_classes
    return {
        "format": 1,
        "name": manifest.name,
        "exported_as": format_name,
        "files": [_file(path) for path in files],
        **metadata(manifest),
        "arguments": manifest.arguments.model_dump(),
        "tensors": {
            "images": {"dtype": "float32", "shape": ["batch", channels, "height", "width"]},
            "logits": {"dtype": "float32", "shape": ["batch", classes, "height", "width"]},
            "smallest_size": manifest.input.stride + 1,
        },
        "agreement": agreement,
        "calibration": calibration,
        "checkpoint_metrics": manifest.metrics.model_dump() if manifest.metrics else None,
        "versions": {**library_versions(), **_package_versions()},
        "exported": now(),
    }


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"file": path.name, "sha256": digest, "bytes": path.stat().st_size}


def _package_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
