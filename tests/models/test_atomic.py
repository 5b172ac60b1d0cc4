"""Files that are whole or not there."""

import errno
import os
import stat
from pathlib import Path
from typing import IO

import pytest

from models.atomic import replace_bytes, write_atomically, write_bytes


def test_writes_the_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a longer old content")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_a_writer_that_fails_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(stream: IO[bytes]) -> None:
        stream.write(b"half of the new")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("hidden", [False, True])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, hidden: bool) -> None:
    """torch's archive writer hides it behind an error of its own."""

    def write(stream: IO[bytes]) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            if hidden:
                raise RuntimeError("unexpected pos 64 vs 0")

    with pytest.raises(OSError, match=r"No space left on device: '.*file'"):
        write_atomically(tmp_path / "file", write)
    assert list(tmp_path.iterdir()) == []


def test_another_error_of_the_writer_is_its_own(tmp_path: Path) -> None:
    def write(stream: IO[bytes]) -> None:
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        write_atomically(tmp_path / "file", write)


def test_a_reader_meets_the_old_content_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    def write(stream: IO[bytes]) -> None:
        stream.write(b"half")
        stream.flush()
        seen.append(path.read_bytes())
        stream.write(b" and half")

    write_atomically(path, write)
    assert seen == [b"old"]
    assert path.read_bytes() == b"half and half"


def test_the_temporary_file_is_hidden_and_in_the_same_folder(tmp_path: Path) -> None:
    names: list[str] = []

    def write(stream: IO[bytes]) -> None:
        names.extend(entry.name for entry in tmp_path.iterdir())

    write_atomically(tmp_path / "file.pth", write)
    assert len(names) == 1
    assert names[0].startswith(".")
    assert not names[0].endswith(".pth")


def test_the_content_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    sync, rename = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append(f"sync {kind}")
        sync(descriptor)

    def replace(source: str | Path, target: str | Path) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_bytes(tmp_path / "file", b"content")
    assert events == ["sync file", "rename", "sync folder"]


def test_other_users_can_read_the_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"content")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "absent" / "file", b"content")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    replace_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 12345, 12346)
    replace_bytes(path, b"new")
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)


def test_a_file_that_was_not_there_may_be_read_by_others(tmp_path: Path) -> None:
    replace_bytes(tmp_path / "file", b"new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
