"""What can go wrong in training.

TrainerError
├── ConfigError       an option, or two of them together, that cannot work
├── DatasetError      a folder, split, image or mask that cannot be trained on
└── DivergedError     the loss is not a number any more
"""


class TrainerError(Exception):
    """Base of everything `trainer` raises on purpose; shown to the user as one line."""


class ConfigError(TrainerError):
    """An option's value cannot work; the message names both."""


class DatasetError(TrainerError):
    """The dataset breaks its own contract; the message names file and value."""


class DivergedError(TrainerError):
    """Training produced NaN or infinity; the state saved before it is kept."""
