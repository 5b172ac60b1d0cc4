"""The compiled sources: there where they can be, and missed by nobody where they cannot."""

import ctypes
import logging
import sysconfig
from pathlib import Path
from shutil import which
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from models import compiled


@pytest.fixture(autouse=True)
def _looked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "library", compiled.library.__wrapped__)


def test_there_is_a_library_where_there_is_a_compiler() -> None:
    compiler = str(sysconfig.get_config_var("CC")).split()[0]
    assert compiled.library() is not None or not which(compiler)


def test_without_one_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert compiled.library() is None
    assert "were not compiled at installation" in caplog.text


def test_one_that_cannot_be_loaded_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"of another processor")
    monkeypatch.setattr(compiled, "find_spec", lambda name: Mock(origin=str(broken)))
    assert compiled.library() is None
    assert "broken.so" in caplog.text


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (SimpleNamespace(segment=Mock()), "interface"),
        (Mock(_name="old.so", interface=lambda: -1), "old.so is of another version; install again"),
    ],
)
def test_one_of_another_version_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    library: object,
    said: str,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda origin: library)
    monkeypatch.setattr(compiled, "find_spec", lambda name: Mock(origin="old.so"))
    assert compiled.library() is None
    assert said in caplog.text
