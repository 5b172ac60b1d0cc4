"""Real processes of `fit`: alone, or several that torchrun starts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.trainer.runs import SMALL

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


def start_fit(data: Path, out: Path, *options: object, processes: int = 1) -> subprocess.Popen[str]:
    """Its stderr is to be read."""
    launcher = (*TORCHRUN, str(processes)) if processes > 1 else ()
    command = [sys.executable, "-u", *launcher, "-m", "trainer", "fit", "--data", data]
    return subprocess.Popen(
        [*map(str, command), "--out", str(out), *SMALL, *map(str, options)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as in these tests: sums in the same order
        stderr=subprocess.PIPE,
        text=True,
    )


def signal_at(process: subprocess.Popen[str], words: str, number: signal.Signals) -> str:
    """Sends the signal when a line with `words` appears; returns all that stood on stderr."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            process.send_signal(number)
            break
    rest = process.communicate(timeout=600)[1]
    return "".join(lines) + rest
