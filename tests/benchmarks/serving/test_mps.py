"""NVIDIA's daemon is started for as long as it is needed, with files of its own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.serving import mps
from benchmarks.serving.errors import BenchmarkError

# what it was asked, and with which folder; a daemon that keeps its output open, as NVIDIA's does
CONTROL = """#!/bin/sh
echo "$* $(cat) $CUDA_MPS_PIPE_DIRECTORY" >> "$ASKED"
[ "$1" = -d ] && { sleep 5 & }
exit 0
"""
NEVER_ENDED = CONTROL.replace("exit 0", '[ "$1" = -d ]')
REFUSAL = """#!/bin/sh
echo "an instance of this daemon is already running"
exit 1
"""

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    def as_control(script: str) -> None:
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / mps.CONTROL).write_text(script)
        (programs / mps.CONTROL).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("ASKED", str(tmp_path / "asked"))

    return as_control


def test_the_daemon_is_started_and_ended(tmp_path: Path, install: Install) -> None:
    install(CONTROL)
    folder = tmp_path / "mps"
    assert mps.is_there()
    with mps.mps(folder) as variables:
        assert variables["CUDA_MPS_PIPE_DIRECTORY"] == str(folder)
        assert (tmp_path / "asked").read_text() == f"-d  {folder}\n"
    assert (tmp_path / "asked").read_text() == f"-d  {folder}\n quit {folder}\n"


def test_the_daemon_ends_after_a_failure(tmp_path: Path, install: Install) -> None:
    install(CONTROL)
    with pytest.raises(RuntimeError, match="a service"), mps.mps(tmp_path / "mps"):
        raise RuntimeError("a service")
    assert " quit " in (tmp_path / "asked").read_text()


def test_what_was_measured_is_kept_where_the_daemon_does_not_end(
    tmp_path: Path, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(NEVER_ENDED)
    with mps.mps(tmp_path / "mps"):
        pass
    assert "the daemon may still be there" in caplog.text


def test_a_refusal_is_told_in_the_daemons_words(tmp_path: Path, install: Install) -> None:
    install(REFUSAL)
    with pytest.raises(BenchmarkError, match="already running"), mps.mps(tmp_path / "mps"):
        pass


def test_without_the_program_there_is_no_such_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not mps.is_there()
    with pytest.raises(BenchmarkError, match=mps.CONTROL), mps.mps(tmp_path / "mps"):
        pass
