"""Reading a DataLoader whose worker processes may fail or be killed."""

import signal
import threading
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from trainer.errors import EXPECTED, WorkerError


def read_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Its batches. An error of a worker is raised as it would be without workers, and a worker's
    death as a WorkerError, both only where a batch is asked for."""
    try:
        batches = iter(loader)
        _leave_deaths_to_the_reader()
        yield from batches
    except EXPECTED as error:
        raise _without_the_workers_traceback(error) from error
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise WorkerError(
            "a process that prepares images was killed, most likely because memory ran out: try "
            "fewer --workers or a smaller --batch-size"
        ) from error


def _leave_deaths_to_the_reader() -> None:
    """torch raises wherever the program stands when a worker dies: between the weights' update
    and the count of it, too. Without that it notices within seconds of waiting for a batch."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _without_the_workers_traceback(error: Exception) -> Exception:
    """A worker hands its traceback on as the message; its last line is the error."""
    text = str(error)
    if not text.startswith("Caught "):
        return error
    return type(error)(text.splitlines()[-1].partition(": ")[2])
