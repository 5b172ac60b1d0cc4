"""Stopping between steps: Ctrl-C and SIGTERM ask, and the run stops where its state is whole."""

import signal
import threading
from types import FrameType, TracebackType


class StopRequested(KeyboardInterrupt):
    """Raised between steps, when everything a resumed run needs can be saved."""


class Interrupt:
    """A context in which the first signal is remembered and the second one interrupts at once.

    A KeyboardInterrupt in the middle of a step could fall between the weights' update and the
    count of it, and the resumed run would do that step twice.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Called where stopping loses nothing; raises StopRequested when a signal has come."""
        if self.requested:
            raise StopRequested

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
