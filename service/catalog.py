"""The folder of checkpoints: what lies in it, and which of them is served first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from models import Checkpoint, ListedCheckpoint, inspect_checkpoint, load_checkpoint
from models.checkpoint import find_checkpoints
from models.errors import CheckpointError, ModelError
from models.manifest import Manifest
from service.entries import listed_entry
from service.errors import OverloadedError, StartupError, UnknownModelError
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
        self._stopping = False

    def entries(
        self,
        loaded: Sequence[ModelEntry] = (),
        failures: Mapping[str, str] | None = None,
        listed: Sequence[ListedCheckpoint] | None = None,
    ) -> list[ModelEntry]:
        """Every checkpoint by name; a loaded one is described as it was loaded, and stays listed
        when its file is gone. `failures` says of others why they could not be loaded, `listed` is
        what `all_listed` gave where somebody has asked it already."""
        failures = failures or {}
        found = {
            each.name: listed_entry(each, failure=failures.get(each.name))
            for each in (self.all_listed() if listed is None else listed)
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
        path = find_checkpoints(self.folder).get(name)
        return None if path is None else self._inspected(path, name)

    def path(self, name: str) -> Path:
        """The `.pth` of a name; UnknownModelError where the folder has none."""
        path = find_checkpoints(self.folder).get(name)
        if path is None:
            raise _unknown(name)
        return path

    def all_listed(self) -> list[ListedCheckpoint]:
        """Reads what is new, however long that takes."""
        found = find_checkpoints(self.folder)
        there = set(found.values())
        for path in list(self._seen):  # a copy: others may add meanwhile
            if path not in there:
                self._seen.pop(path, None)
        return [self._inspected(path, name) for name, path in found.items()]

    def stop(self) -> None:
        """No further file is read: OverloadedError for who waits for one."""
        self._stopping = True

    def _inspected(self, path: Path, name: str) -> ListedCheckpoint:
        """From any thread: two who meet at a new file read it twice and find the same."""
        stamp = (*_stat(path), *_stat(path.with_suffix(".json")))
        known = self._seen.get(path)
        is_misplaced = self._trust.misplacement(path) is not None  # a link changes, not its stamp
        if known is not None and known[0] == stamp and not is_misplaced:
            return known[1]
        if self._stopping:
            raise OverloadedError("the service is stopping", reason="draining")
        listed = self._trust.refused(path, name) or inspect_checkpoint(path, name=name)
        if listed.reason is not None:
            listed = replace(listed, reason=without_folders(listed.reason))
        self._seen[path] = (_UNSETTLED if is_misplaced else stamp, listed)
        return listed


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
