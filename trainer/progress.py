"""Telling the person at the terminal how far a long step is: bar, loss, images/s, time left."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger(__name__)

LOG_EVERY_S = 60.0


class Reporter:
    """A progress bar on a terminal; elsewhere a log line now and then."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._logged = time.monotonic()

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, description: str, *, total: int, done: int = 0) -> None:
        """Starts a new bar in place of the last one."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(description, total=total, completed=done, figures="")

    def advance(self, count: int, *, loss: float | None = None) -> None:
        if self._task is None:
            return
        task = next(task for task in self._bar.tasks if task.id == self._task)
        figures = f"{task.speed or 0:.1f} images/s"
        if loss is not None:
            figures = f"loss {loss:.4f}  {figures}"
        self._bar.update(self._task, advance=count, figures=figures)
        if self._bar.disable and time.monotonic() - self._logged > LOG_EVERY_S:
            self._logged = time.monotonic()
            left = f"{task.time_remaining:.0f} s left" if task.time_remaining is not None else ""
            logger.info(
                "%s: %d of %d, %s %s", task.description, task.completed, task.total, figures, left
            )
