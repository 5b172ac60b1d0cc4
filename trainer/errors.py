"""What can go wrong in training.

TrainerError
├── ConfigError       an option, or two of them together, that cannot work
├── DatasetError      a folder, split, image or mask that cannot be trained on
├── DivergedError     the loss is not a number any more
└── ExportError       an exported file that does not say what its checkpoint says
"""

from models.errors import ModelError


class TrainerError(Exception):
    """Base of everything `trainer` raises on purpose; shown to the user as one line."""

    def __str__(self) -> str:
        """A DataLoader's worker process hands its traceback on as the message; its last line is
        the error."""
        text = super().__str__()
        return text.splitlines()[-1].partition(": ")[2] if text.startswith("Caught ") else text


class ConfigError(TrainerError):
    """An option's value cannot work; the message names both."""


class DatasetError(TrainerError):
    """The dataset breaks its own contract; the message names file and value."""


class DivergedError(TrainerError):
    """Training produced NaN or infinity; the state saved before it is kept."""


class ExportError(TrainerError):
    """An exported file cannot be run or disagrees with its checkpoint; it is not kept."""


EXPECTED = (TrainerError, ModelError, OSError)  # what a command ends with in one line
