"""Progress on a terminal and in a log."""

import logging
from io import StringIO

import pytest
from rich.console import Console

from trainer import progress
from trainer.progress import Reporter


def test_a_log_gets_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", -1.0)
    output = StringIO()
    with caplog.at_level(logging.INFO), Reporter(Console(file=output)) as reporter:
        reporter.begin("epoch 1/3", total=10, done=4)
        reporter.advance(2, loss=0.75)
    assert "epoch 1/3: 6 of 10, loss 0.7500" in caplog.text
    assert output.getvalue().strip() == ""


def test_a_log_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Reporter(Console(file=StringIO())) as reporter:
        reporter.begin("epoch", total=1000)
        for _ in range(1000):
            reporter.advance(1)
    assert caplog.text == ""


def test_a_terminal_sees_a_bar() -> None:
    output = StringIO()
    console = Console(file=output, force_terminal=True, width=100)
    with Reporter(console) as reporter:
        reporter.begin("epoch 1/3", total=10)
        reporter.advance(5, loss=0.5)
        reporter.begin("validation of [a] :b:", total=4)
        reporter.advance(4)
    assert "validation of [a] :b:" in output.getvalue()


def test_advancing_before_the_first_bar_is_harmless() -> None:
    with Reporter(Console(file=StringIO())) as reporter:
        reporter.advance(1)
