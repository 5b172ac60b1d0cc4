"""The checkpoints in the folder, and the one that is served."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

from models import Checkpoint, ListedCheckpoint, inspect_checkpoint, load_checkpoint
from models.checkpoint import find_checkpoints
from models.errors import ModelError
from models.manifest import Manifest
from service.engines.choose import Choice
from service.errors import StartupError, UnknownModelError
from service.redaction import without_folders
from service.schemas import EngineEntry, ModelEntry
from service.trust import Trust

logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int]  # size and modification time of the .pth and its manifest
_UNSETTLED: Stamp = (-1, -1, -1, -1)  # no file's: looked at again the next time


class Catalog:
    """Lists a folder; a file is read and hashed again only when it has changed."""

    def __init__(
        self, folder: Path, active: Manifest, choice: Choice, trust: Trust | None = None
    ) -> None:
        self.folder = folder
        self._trust = trust or Trust(folder)
        self.active = active
        self._choice = choice
        self._seen: dict[Path, tuple[Stamp, ListedCheckpoint]] = {}
        self._lock = threading.Lock()

    def entries(self) -> list[ModelEntry]:
        """Every checkpoint by name; the served one stays listed when its file is gone."""
        entries = [self._entry(listed) for listed in self._listed()]
        if all(entry.name != self.active.name for entry in entries):
            entries.append(self._active_entry(0))
        return sorted(entries, key=lambda entry: entry.name)

    def manifest(self, name: str) -> Manifest:
        """Raises UnknownModelError for a name that is not listed, or listed as invalid."""
        if name == self.active.name:
            return _without_folders(self.active)
        for listed in self._listed():
            if listed.name == name:
                if listed.manifest is None:
                    raise UnknownModelError(f"checkpoint {name!r} is invalid: {listed.reason}")
                return _without_folders(listed.manifest)
        raise UnknownModelError(f"there is no checkpoint {name!r}; GET /models lists them")

    def require_active(self, name: str | None) -> None:
        """A request may name the model it expects; only the active one answers."""
        if name is not None and name != self.active.name:
            raise UnknownModelError(f"model {name!r} is not loaded; {self.active.name!r} is")

    def _listed(self) -> list[ListedCheckpoint]:
        with self._lock:
            found = find_checkpoints(self.folder)
            self._seen = {path: self._inspected(path, name) for name, path in found.items()}
            return [listed for _, listed in self._seen.values()]

    def _inspected(self, path: Path, name: str) -> tuple[Stamp, ListedCheckpoint]:
        stamp = (*_stat(path), *_stat(path.with_suffix(".json")))
        known = self._seen.get(path)
        is_misplaced = self._trust.misplacement(path) is not None  # a link changes, not its stamp
        if known is not None and known[0] == stamp and not is_misplaced:
            return known
        listed = self._trust.refused(path, name) or inspect_checkpoint(path, name=name)
        if listed.reason is not None:
            listed = replace(listed, reason=without_folders(listed.reason))
        return _UNSETTLED if is_misplaced else stamp, listed

    def _active_entry(self, size: int) -> ModelEntry:
        weights = self.active.weights
        entry = _entry(self.active, "active", None, weights.bytes if weights else size)
        return entry.model_copy(update={"engine": _engine_entry(self._choice)})

    def _entry(self, listed: ListedCheckpoint) -> ModelEntry:
        if listed.name == self.active.name:
            return self._active_entry(listed.bytes)
        status = "available" if listed.reason is None else "invalid"
        return _entry(listed.manifest, status, listed.reason, listed.bytes, name=listed.name)


def load_active(folder: Path, name: str | None, trust: Trust | None = None) -> Checkpoint:
    """The checkpoint to serve; StartupError says why there is none."""
    files = find_checkpoints(folder)
    if name is None:
        if len(files) != 1:
            found = ", ".join(files) or "no checkpoint"
            raise StartupError(f"--checkpoints {folder} holds {found}; choose one with --model")
        name = next(iter(files))
    stem = name.removesuffix(".pth")
    if stem not in files:
        found = ", ".join(files) or "no checkpoint"
        raise StartupError(f"--model {name}: not in {folder}, which holds {found}")
    trust = trust or Trust(folder)
    try:
        trust.require(files[stem])
        checkpoint = load_checkpoint(files[stem], name=stem)
        trust.require_loaded(checkpoint)
    except ModelError as error:
        raise StartupError(f"--model {name}: {error}") from error
    channels = checkpoint.manifest.arguments.in_channels
    if channels != 3:
        raise StartupError(f"--model {name}: takes {channels} channels, uploads have 3 (RGB)")
    return checkpoint


def _entry(
    manifest: Manifest | None, status: str, reason: str | None, size: int, *, name: str = ""
) -> ModelEntry:
    weights = manifest.weights if manifest else None
    return ModelEntry.model_validate(
        {
            "name": manifest.name if manifest else name,
            "architecture": manifest.architecture if manifest else None,
            "num_classes": manifest.arguments.num_classes if manifest else None,
            "status": status,
            "metrics": manifest.metrics if manifest else None,
            "sha256": weights.sha256 if weights else None,
            "bytes": size,
            "reason": reason,
        }
    )


def _engine_entry(choice: Choice) -> EngineEntry:
    return EngineEntry(
        name=choice.engine.name,
        device=str(choice.engine.device),
        reason=without_folders(choice.reason),
        agreement=choice.agreement,
        refused=[without_folders(each) for each in choice.refused],
    )


def _without_folders(manifest: Manifest) -> Manifest:
    """The command of its training names folders of the machine where it was trained."""
    record = manifest.training
    if record is None:
        return manifest
    update: dict[str, str] = {"command": without_folders(record.command)}
    if record.resumed_by is not None:
        update["resumed_by"] = without_folders(record.resumed_by)
    return manifest.model_copy(update={"training": record.model_copy(update=update)})


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
