"""Running the trainer's commands in this process, as `python -m trainer ...` would."""

import logging
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

import pytest

from trainer.__main__ import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit status, what it printed, and what it logged (on stderr, too)."""

    status: int
    stdout: str
    stderr: str
    log: str

    @property
    def words(self) -> str:
        """stdout with line breaks and table frames taken out."""
        return " ".join(self.stdout.replace("│", " ").split())


def run_command(*arguments: object) -> Outcome:
    """Runs `main`; an exception that `main` lets through fails the test with its traceback."""
    out, err, log = StringIO(), StringIO(), StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
        patch.setattr("trainer.__main__.keep_freed_memory", lambda: None)  # lasts for the process
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
    status = code if isinstance(code, int) else int(code is not None)
    return Outcome(status, out.getvalue(), err.getvalue(), log.getvalue())


def succeed(*arguments: object) -> Outcome:
    """Runs a command that must end well."""
    outcome = run_command(*arguments)
    assert outcome.status == 0, outcome.stderr + outcome.log
    return outcome


def refusal(*arguments: object) -> str:
    """Runs a command that must fail with one line on stderr; returns the line."""
    outcome = run_command(*arguments)
    assert outcome.status == 1, outcome
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("error: ")
    return lines[0]
