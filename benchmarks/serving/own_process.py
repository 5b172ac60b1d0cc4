"""A measurement in a process of its own: a question as JSON in, the answer as JSON out.

What a library keeps from one measurement, threads and memory above all, is gone before the next.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.serving.errors import BenchmarkError


def ask(module: str, question: object, *, timeout_s: float) -> Any:
    """Runs `python -m module`; BenchmarkError with its last line when it fails or takes longer."""
    try:
        process = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{module}: no answer within {timeout_s:.0f} s") from error
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"status {process.returncode}"]
        raise BenchmarkError(f"{module}: {lines[-1]}")
    return json.loads(process.stdout.strip().splitlines()[-1])


def answer(respond: Callable[[Any], object]) -> None:
    """The other side: reads the question, and writes what `respond` makes of it as the last line,
    whatever libraries have written before."""
    found = respond(json.loads(sys.stdin.read()))
    sys.stdout.write("\n" + json.dumps(found) + "\n")
