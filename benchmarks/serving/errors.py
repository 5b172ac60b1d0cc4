"""What can go wrong in a measurement.

BenchmarkError
├── RefusedError      a server ended before it was ready; the message is its own last line
└── NotInstalledError what a contender needs is absent here
"""


class BenchmarkError(Exception):
    """Base of everything raised on purpose here; shown as one line or as a row of a table."""


class RefusedError(BenchmarkError):
    """The server would not start; the message is the last line it wrote."""


class NotInstalledError(BenchmarkError):
    """A package or virtual environment is absent; the message names it."""
