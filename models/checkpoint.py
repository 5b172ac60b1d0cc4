"""Checkpoints on disk: a plain state_dict `NAME.pth` and its manifest `NAME.json`.

Nothing but tensors is ever unpickled. Both files are written under another name, synced and
renamed, the manifest last, so a listing never shows half a checkpoint.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.architectures import build
from models.atomic import write_atomically, write_bytes
from models.errors import CheckpointError, ModelError
from models.manifest import Dtype, Manifest, WeightsFile, read_manifest
from models.network import SegmentationNetwork
from models.weights import infer_manifest, read_state, require_fit

DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class Checkpoint:
    """A network in evaluation mode, float32, on the CPU, with the manifest it was built from."""

    network: SegmentationNetwork
    manifest: Manifest


@dataclass(frozen=True)
class ListedCheckpoint:
    """One `.pth` of a folder; `reason` says why it cannot be used, None when it can."""

    name: str
    path: Path
    manifest: Manifest | None
    reason: str | None
    bytes: int


def save_checkpoint(
    path: Path,
    state_dict: Mapping[str, Tensor],
    manifest: Manifest,
    *,
    dtype: Dtype = "float32",
) -> Manifest:
    """Writes `path` (.pth) and its manifest; returns the manifest with name and hash filled in.

    In half precision only tensors of two and more dimensions are stored at `dtype`: biases and
    batch statistics are a percent of the bytes and the ones that lose by rounding.
    """
    _require_pth(path)
    state = stored_state(state_dict, dtype)
    require_fit(state, manifest, name=path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda stream: torch.save(state, stream))
    weights = WeightsFile(
        file=path.name,
        sha256=_file_sha256(path),
        bytes=path.stat().st_size,
        dtype=dtype,
    )
    saved = manifest.model_copy(update={"name": path.stem, "weights": weights})
    write_bytes(path.with_suffix(".json"), saved.model_dump_json(indent=1).encode())
    return saved


def load_checkpoint(path: Path, *, name: str | None = None) -> Checkpoint:
    """Reads, verifies and builds; a CheckpointError names the file and what is wrong with it.

    `name` is what it is called from now on, the file's stem by default.
    """
    path = Path(path)
    _require_pth(path)
    try:
        content = path.read_bytes()  # hashed and parsed from one read: no swap in between
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    manifest, state = _examine(path, content, name or path.stem)
    network = build(manifest.architecture, **manifest.arguments.model_dump())
    network.load_state_dict(state)
    network.eval()
    return Checkpoint(network, manifest)


def inspect_checkpoint(path: Path, *, name: str | None = None) -> ListedCheckpoint:
    """The manifest of a `.pth`, or the reason why it cannot be used; never raises for bad files."""
    name = name or path.stem
    size = 0
    try:
        size = path.stat().st_size
        manifest, _ = _examine(path, None, name)
    except ModelError as error:
        return ListedCheckpoint(name, path, None, str(error), size)
    except OSError as error:
        reason = f"{path.name}: {error.strerror or error}"
        return ListedCheckpoint(name, path, None, reason, size)
    return ListedCheckpoint(name, path, manifest, None, size)


def list_checkpoints(folder: Path) -> list[ListedCheckpoint]:
    """Every checkpoint of a folder by name, usable or not; an absent folder is empty."""
    return [inspect_checkpoint(path, name=name) for name, path in find_checkpoints(folder).items()]


def find_checkpoints(folder: Path) -> dict[str, Path]:
    """Names and files: `NAME.pth` itself, and the best checkpoint of a run folder `NAME/`.

    So a run trained into the folder is listed without being copied; a file goes before a run of
    the same name. Hidden names are left out: they are being written.
    """
    folder = Path(folder)
    runs = {p.parents[1].name: p for p in folder.glob("*/checkpoints/best.pth")}
    files = {p.stem: p for p in folder.glob("*.pth")}
    return {
        name: path
        for name, path in sorted({**runs, **files}.items())
        if not name.startswith(".") and path.is_file()
    }


def _examine(path: Path, content: bytes | None, name: str) -> tuple[Manifest, dict[str, Tensor]]:
    """Manifest and tensors of a checkpoint, hash and fit checked."""
    beside = path.with_suffix(".json")
    manifest = read_manifest(beside) if beside.exists() else None
    if manifest is not None:
        _require_hash(path, content, manifest)
    state = read_state(path if content is None else content, name=path.name)
    if manifest is None:
        manifest = infer_manifest(state, name=name)
    elif manifest.name != name:
        manifest = manifest.model_copy(update={"name": name})  # a renamed pair, or a run's best
    require_fit(state, manifest, name=path.name)
    return manifest, state


def _require_hash(path: Path, content: bytes | None, manifest: Manifest) -> None:
    if manifest.weights is None:
        raise CheckpointError(f"{path.stem}.json: weights: the hash of {path.name} is missing")
    digest = _file_sha256(path) if content is None else hashlib.sha256(content).hexdigest()
    if digest != manifest.weights.sha256:
        raise CheckpointError(
            f"{path.name}: sha256 is {digest[:12]}…, its manifest says "
            f"{manifest.weights.sha256[:12]}…; the file was changed or only half copied"
        )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stored_state(state_dict: Mapping[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    """The tensors as `save_checkpoint` stores them, on the CPU."""
    return {key: _stored(tensor.detach().cpu(), dtype) for key, tensor in state_dict.items()}


def _stored(tensor: Tensor, dtype: Dtype) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.to(DTYPES[dtype] if tensor.dim() > 1 else torch.float32)
    return tensor.contiguous().clone()


def _require_pth(path: Path) -> None:
    if path.suffix != ".pth":
        raise CheckpointError(f"{path}: a checkpoint's file name ends in .pth")
