"""Which files of the checkpoint folder may be read at all, before any of them is parsed.

A checkpoint, its manifest and the folders between lie inside the folder: a symbolic link that leads
out of it is refused, because what it shows could be any file of the machine. Links within it (as
volumes of Kubernetes have them) and a folder that is a link itself are fine.
"""

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from models import Checkpoint, ListedCheckpoint
from models.errors import CheckpointError
from service.errors import StartupError

SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
# no control characters, and none of what a name that is not text in UTF-8 is read as
NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f/\\\ud800-\udfff]{1,200}")


class Trust:
    """`allowed` are sha256 hashes, or files that hold one at the beginning of each line as
    `sha256sum` writes them; empty allows every checkpoint. StartupError for what is neither."""

    def __init__(self, folder: Path, allowed: Iterable[str] = ()) -> None:
        self._folder = folder
        given = list(allowed)
        self._allowed = frozenset(digest for each in given for digest in _digests(each))
        self._is_limited = bool(given)

    def misplacement(self, path: Path) -> str | None:
        """Why a checkpoint's place or name forbids to read it; quick, for every listing."""
        inside = path.relative_to(self._folder) if path.is_relative_to(self._folder) else path
        if not all(NAME.fullmatch(part) for part in inside.parts):
            return f"{path.name!r}: the name has characters that no model's name may have"
        root = self._folder.resolve()
        for file in (path, path.with_suffix(".json"), path.with_name(f".{path.stem}.json.next")):
            if not _resolved(file).is_relative_to(root):
                return f"{file.name}: a symbolic link leads out of the folder of checkpoints"
        return None

    def refusal(self, path: Path) -> str | None:
        """Why a checkpoint must not be parsed; reads the whole file where hashes are asked for."""
        misplaced = self.misplacement(path)
        if misplaced or not self._is_limited:
            return misplaced
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            return f"{path.name}: {error.strerror or error}"
        return self._unlisted(path.name, digest)

    def refused(self, path: Path, name: str) -> ListedCheckpoint | None:
        """How a checkpoint that must not be parsed is listed; None for one that may."""
        reason = self.refusal(path)
        if reason is None:
            return None
        size = 0  # of a file elsewhere not even this is told
        if self.misplacement(path) is None:
            with suppress(OSError):
                size = path.stat().st_size
        shown = name.encode("utf-8", "backslashreplace").decode()
        return ListedCheckpoint(shown, path, None, reason, size)

    def require(self, path: Path) -> None:
        """CheckpointError with the reason, for a checkpoint that must not be parsed."""
        reason = self.refusal(path)
        if reason is not None:
            raise CheckpointError(reason)

    def require_loaded(self, checkpoint: Checkpoint) -> None:
        """The file may have been replaced since `require`: what counts is what was loaded."""
        weights = checkpoint.manifest.weights
        digest = weights.sha256 if weights else ""
        reason = self._unlisted(checkpoint.manifest.name, digest) if self._is_limited else None
        if reason is not None:
            raise CheckpointError(reason)

    def _unlisted(self, name: str, digest: str) -> str | None:
        if digest in self._allowed:
            return None
        return f"{name}: sha256 {digest[:12]}… is not one of the {len(self._allowed)} allowed"


def _resolved(file: Path) -> Path:
    """Where links lead to: for those in a circle nowhere, which is outside too."""
    try:
        return file.resolve()
    except (OSError, RuntimeError):
        return Path("/")


def _digests(given: str) -> list[str]:
    if SHA256.fullmatch(given):
        return [given.lower()]
    option = f"--allowed-sha256 {given}"
    try:
        lines = Path(given).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "is not text"
        raise StartupError(f"{option}: neither 64 hexadecimal digits nor a file: {why}") from error
    digests = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not SHA256.fullmatch(words[0]):
            raise StartupError(f"{option}: line {number} begins with no sha256")
        digests.append(words[0].lower())
    return digests
