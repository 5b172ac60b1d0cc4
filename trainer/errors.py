"""What can go wrong in training.

TrainerError
├── ConfigError       an option, or two of them together, that cannot work
├── DatasetError      a folder, split, image or mask that cannot be trained on
├── WorkerError       a process that prepares images was killed
├── DivergedError     the loss is not a number any more
└── ExportError       an exported file that does not say what its checkpoint says
"""

from models.errors import ModelError


class TrainerError(Exception):
    """Base of everything `trainer` raises on purpose; shown to the user as one line."""


class ConfigError(TrainerError):
    """An option's value cannot work; the message names both."""


class DatasetError(TrainerError):
    """The dataset breaks its own contract; the message names file and value."""


class WorkerError(TrainerError):
    """A process that prepares images was killed; no step is lost by it."""


class DivergedError(TrainerError):
    """Training produced NaN or infinity; the state saved before it is kept."""


class ExportError(TrainerError):
    """An exported file cannot be run or disagrees with its checkpoint; it is not kept."""


EXPECTED = (TrainerError, ModelError, OSError)  # what a command ends with in one line
