"""NVIDIA's Multi-Process Service, by which kernels of several processes run side by side on a GPU;
without it the processes take turns."""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.errors import BenchmarkError

logger = logging.getLogger(__name__)

CONTROL = "nvidia-cuda-mps-control"
TIMEOUT_S = 60.0


def is_there() -> bool:
    """Where NVIDIA's driver was installed whole; many containers have only its libraries."""
    return shutil.which(CONTROL) is not None


@contextmanager
def mps(folder: Path) -> Iterator[Mapping[str, str]]:
    """The variables with which processes share a GPU that way, and, while they are needed, the
    daemon that they ask, with its files in `folder`; BenchmarkError where it does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    _control(folder, variables, "-d")
    try:
        yield variables
    finally:
        try:
            _control(folder, variables, question="quit\n")
        except BenchmarkError as error:  # what was measured is not to be lost for it
            logger.warning("the daemon may still be there: %s", error)


def _control(
    folder: Path, variables: Mapping[str, str], *arguments: str, question: str = ""
) -> None:
    said = folder / "control.log"  # a file: the daemon keeps what it was given open
    try:
        with said.open("wb") as stream:
            status = subprocess.run(
                [CONTROL, *arguments],
                env={**os.environ, **variables},
                input=question.encode(),
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
            ).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{CONTROL}: {error}") from error
    if status:
        words = said.read_text(errors="replace").strip()
        raise BenchmarkError(f"{CONTROL}: {words or f'ended with {status}'}")
