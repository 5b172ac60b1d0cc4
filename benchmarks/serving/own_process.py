"""Measurements in a process of their own: questions as lines of JSON in, answers as lines out.

What a library keeps from one measurement, threads and memory above all, is gone before the next.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.serving.errors import BenchmarkError

MARK = "answer: "  # whatever libraries write on lines of their own


def ask(module: str, question: object, *, timeout_s: float) -> Any:
    """One answer of `python -m module`."""
    with conversation(module, timeout_s=timeout_s) as put:
        return put(question)


@contextmanager
def conversation(module: str, *, timeout_s: float) -> Iterator[Callable[[object], Any]]:
    """`python -m module`, to be asked one question after another until the context is left.
    BenchmarkError with its last line when it fails, or takes longer than this for an answer."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        def put(question: object) -> Any:
            assert process.stdin is not None
            late = threading.Event()

            def give_up() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(timeout_s, give_up)
            timer.start()
            try:
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
                return _answer_of(process)
            except (BrokenPipeError, EOFError):
                process.wait()
            finally:
                timer.cancel()
            if late.is_set():
                raise BenchmarkError(f"{module}: no answer within {timeout_s:.0f} s")
            errors.seek(0)
            lines = errors.read().strip().splitlines() or [f"status {process.returncode}"]
            raise BenchmarkError(f"{module}: {lines[-1]}")

        try:
            yield put
        finally:
            process.kill()  # an answer that nobody waits for is none
            process.communicate()


def _answer_of(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    raise EOFError


def answer(respond: Callable[[Any], object]) -> None:
    """The other side: writes what `respond` makes of each question."""
    for line in sys.stdin:
        found = respond(json.loads(line))
        sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
        sys.stdout.flush()
