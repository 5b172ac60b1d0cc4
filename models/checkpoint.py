"""Checkpoints on disk: a plain state_dict `NAME.pth` and its manifest `NAME.json`.

Nothing but tensors is ever unpickled. Both files are written under another name, synced and
renamed, the manifest last, so a listing never shows half a checkpoint.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from models.architectures import build
from models.atomic import publish, stage
from models.errors import CheckpointError, ModelError
from models.manifest import Dtype, Manifest, WeightsFile, read_manifest
from models.network import SegmentationNetwork
from models.weights import infer_manifest, read_state, require_finite, require_fit

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
    is_bare: bool = False


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
    temporary = stage(path, lambda stream: torch.save(state, stream))
    try:
        weights = WeightsFile(
            file=path.name,
            sha256=_file_sha256(temporary),
            bytes=temporary.stat().st_size,
            dtype=dtype,
        )
        saved = manifest.model_copy(update={"name": path.stem, "weights": weights})
        content = saved.model_dump_json(indent=1).encode()
        beside = path.with_suffix(".json")
        beside_temporary = stage(beside, lambda stream: _write(stream, content))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # the weights' rename is the moment of truth: from then on the staged manifest is theirs, and
    # `_manifest_of` finds it even if the last rename never comes
    waiting = _waiting_manifest(path)
    publish({waiting: beside_temporary})
    publish({path: temporary})
    publish({beside: waiting})
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
    manifest, state, _ = _examine(path, content, name or path.stem)
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
        manifest, _, is_bare = _examine(path, None, name)
    except ModelError as error:
        return ListedCheckpoint(name, path, None, str(error), size)
    except OSError as error:
        reason = f"{path.name}: {error.strerror or error}"
        return ListedCheckpoint(name, path, None, reason, size)
    return ListedCheckpoint(name, path, manifest, None, size, is_bare)


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


def _examine(
    path: Path, content: bytes | None, name: str
) -> tuple[Manifest, dict[str, Tensor], bool]:
    """Manifest and tensors of a checkpoint, hash and fit checked; whether it has no manifest and
    this one was inferred."""
    manifest = _manifest_of(path, content)
    is_bare = manifest is None
    state = read_state(path if content is None else content, name=path.name)
    if manifest is None:
        manifest = infer_manifest(state, name=name)
        manifest = manifest.model_copy(update={"weights": _bare_weights(path, content, state)})
    elif manifest.name != name:
        manifest = manifest.model_copy(update={"name": name})  # a renamed pair, or a run's best
    require_fit(state, manifest, name=path.name)
    require_finite(state, name=path.name)
    return manifest, state, is_bare


def _manifest_of(path: Path, content: bytes | None) -> Manifest | None:
    """The manifest whose hash is that of the weights; None for a bare `.pth`."""
    beside = path.with_suffix(".json")
    waiting = _waiting_manifest(path)
    candidates = [read_manifest(found) for found in (beside, waiting) if found.exists()]
    if not candidates:
        return None
    digest = _file_sha256(path) if content is None else hashlib.sha256(content).hexdigest()
    for manifest in candidates:
        if manifest.weights is not None and manifest.weights.sha256 == digest:
            return manifest
    if not beside.exists():
        return None  # a manifest left behind by a save that never reached its weights
    if candidates[0].weights is None:
        raise CheckpointError(f"{beside.name}: weights: the hash of {path.name} is missing")
    raise CheckpointError(
        f"{path.name}: sha256 is {digest[:12]}…, its manifest says "
        f"{candidates[0].weights.sha256[:12]}…; the file was changed or only half copied"
    )


def _bare_weights(path: Path, content: bytes | None, state: dict[str, Tensor]) -> WeightsFile:
    """What a manifest would say of the file: its hash, and the dtype of its largest tensor."""
    digest = _file_sha256(path) if content is None else hashlib.sha256(content).hexdigest()
    size = path.stat().st_size if content is None else len(content)
    largest = max(state.values(), key=lambda tensor: tensor.numel())
    names = {dtype: name for name, dtype in DTYPES.items()}
    return WeightsFile(
        file=path.name, sha256=digest, bytes=size, dtype=names.get(largest.dtype, "float32")
    )


def _waiting_manifest(path: Path) -> Path:
    """Where a manifest stands between its own writing and its weights' rename."""
    return path.with_name(f".{path.stem}.json.next")


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


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)
