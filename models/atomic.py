"""Writing a file so that a reader, or a kill, never meets half of it."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Calls `write` on a hidden temporary file in the same folder, syncs it, renames it to `path`.

    On any failure the temporary file is removed and what stood at `path` is untouched.
    """
    publish({path: stage(path, write)})


def stage(path: Path, write: Callable[[IO[bytes]], None]) -> Path:
    """A synced hidden file beside `path`, to be published or unlinked."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)  # mkstemp's 0600 would hide it from the service's user
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise _named(error, path) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def remove_leftovers(folder: Path) -> None:
    """Deletes what `stage` had begun here when it was killed; only for a folder that nobody else
    writes to."""
    for path in folder.glob(".*.????????.tmp"):
        path.unlink(missing_ok=True)


def publish(staged: dict[Path, Path]) -> None:
    """Renames staged files into place, in order."""
    try:
        for path, temporary in staged.items():
            temporary.replace(path)
    except BaseException:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in staged}:
        _sync_folder(folder)


def write_bytes(path: Path, content: bytes) -> None:
    """`write_atomically` for content that is already in memory."""
    write_atomically(path, lambda stream: _write(stream, content))


def replace_bytes(path: Path, content: bytes) -> None:
    """`write_bytes` for a file whose mode is somebody's decision: it stays, and so does its owner
    where the system lets us give a file away."""
    temporary = stage(path, lambda stream: _write(stream, content))
    try:
        with suppress(FileNotFoundError):
            _make_alike(temporary, path.stat())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    publish({path: temporary})


def _make_alike(file: Path, other: os.stat_result) -> None:
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(file, other.st_uid, other.st_gid)
    file.chmod(stat.S_IMODE(other.st_mode))


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)


def _named(error: OSError | RuntimeError, path: Path) -> BaseException:
    """An OSError that names the file, whatever `write` made of it.

    A stream does not know its name; and torch's archive writer, closed after a failed write,
    raises a RuntimeError about positions in its place.
    """
    cause = error.__context__ if isinstance(error, RuntimeError) else error
    if not isinstance(cause, OSError):
        return error
    if cause.errno is not None and cause.filename is None:
        cause.filename = str(path)
    return cause


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
