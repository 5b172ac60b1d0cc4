"""The compiled sources: there where they can be, and missed by nobody where they cannot."""

import ctypes
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from models import compiled


@pytest.fixture(autouse=True)
def _looked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "library", compiled.library.__wrapped__)


def test_there_is_a_library_where_there_is_a_compiler() -> None:
    assert compiled.library() is not None or not (shutil.which("cc") or shutil.which("gcc"))


def test_without_one_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert compiled.library() is None
    assert "there was no C compiler at installation" in caplog.text


def test_one_that_cannot_be_loaded_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"of another processor")
    monkeypatch.setattr(compiled, "find_spec", lambda name: Mock(origin=str(broken)))
    assert compiled.library() is None
    assert "broken.so" in caplog.text


def test_nor_one_of_another_version(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda origin: SimpleNamespace(segment=Mock()))
    monkeypatch.setattr(compiled, "find_spec", lambda name: Mock(origin="old.so"))
    assert compiled.library() is None
    assert "blend" in caplog.text
