"""The folder of checkpoints: what lies in it, and which of them is served first."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from models import Checkpoint, ListedCheckpoint, inspect_checkpoint, load_checkpoint
from models.checkpoint import find_checkpoints
from models.errors import CheckpointError, ModelError
from models.manifest import Manifest
from service.entries import listed_entry
from service.errors import StartupError, UnknownModelError
from service.redaction import without_folders
from service.schemas import ModelEntry
from service.trust import Trust

Stamp = tuple[int, int, int, int]  # size and modification time of the .pth and its manifest
_UNSETTLED: Stamp = (-1, -1, -1, -1)  # no file's: looked at again the next time


class Catalog:
    """Lists a folder; a file is read and hashed again only when it has changed."""

    def __init__(self, folder: Path, trust: Trust | None = None) -> None:
        self.folder = folder
        self._trust = trust or Trust(folder)
        self._seen: dict[Path, tuple[Stamp, ListedCheckpoint]] = {}
        self._lock = threading.Lock()

    def entries(
        self, loaded: Sequence[ModelEntry] = (), failures: Mapping[str, str] | None = None
    ) -> list[ModelEntry]:
        """Every checkpoint by name; a loaded one is described as it was loaded, and stays listed
        when its file is gone. `failures` says of others why they could not be loaded."""
        failures = failures or {}
        found = {
            listed.name: listed_entry(listed, failure=failures.get(listed.name))
            for listed in self._all_listed()
        }
        found |= {entry.name: entry for entry in loaded}
        return [found[name] for name in sorted(found)]

    def manifest(self, name: str) -> Manifest:
        """Raises UnknownModelError for a name that is not listed, or listed as invalid."""
        listed = self.listed(name)
        if listed is None:
            raise _unknown(name)
        if listed.manifest is None:
            raise UnknownModelError(f"checkpoint {name!r} is invalid: {listed.reason}")
        return listed.manifest

    def listed(self, name: str) -> ListedCheckpoint | None:
        """What lies there under this name now."""
        with self._lock:
            path = find_checkpoints(self.folder).get(name)
            if path is None:
                return None
            self._seen[path] = self._inspected(path, name)
            return self._seen[path][1]

    def path(self, name: str) -> Path:
        """The `.pth` of a name; UnknownModelError where the folder has none."""
        path = find_checkpoints(self.folder).get(name)
        if path is None:
            raise _unknown(name)
        return path

    def _all_listed(self) -> list[ListedCheckpoint]:
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


def read_checkpoint(path: Path, trust: Trust, *, name: str) -> Checkpoint:
    """A checkpoint for photographs; ModelError says what is wrong with it."""
    trust.require(path)
    checkpoint = load_checkpoint(path, name=name)
    trust.require_loaded(checkpoint)
    channels = checkpoint.manifest.arguments.in_channels
    if channels != 3:
        raise CheckpointError(f"takes {channels} channels, uploads have 3 (RGB)")
    return checkpoint


def load_active(folder: Path, name: str | None, trust: Trust | None = None) -> Checkpoint:
    """The checkpoint to serve first; StartupError says why there is none."""
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
    try:
        return read_checkpoint(files[stem], trust or Trust(folder), name=stem)
    except ModelError as error:
        raise StartupError(f"--model {name}: {error}") from error


def _unknown(name: str) -> UnknownModelError:
    return UnknownModelError(f"there is no checkpoint {name!r}; GET /models lists them")


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
