"""Giving exported files their names only once they are known to be good."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.atomic import publish


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """Where `out` is to be written: the same name in a hidden folder beside it, which is removed
    with whatever is left in it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = f".{out.name}.", ".tmp"
    for leftover in out.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
        shutil.rmtree(leftover, ignore_errors=True)  # of an export that was killed
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=prefix, suffix=suffix) as folder:
        yield Path(folder) / out.name


def put_in_place(written: Path, out: Path) -> list[Path]:
    """Moves every file of the workshop beside `out`, `out` itself last; returns where they are."""
    files = sorted(written.parent.iterdir(), key=lambda path: path.name == written.name)
    for path in files:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    staged = {out.parent / path.name: path for path in files}
    publish(staged)
    return list(staged)
