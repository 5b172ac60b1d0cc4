"""What can be wrong with a model on disk.

ModelError
├── UnknownArchitectureError   a name that is not in the registry
├── ClassSetError         a class list that cannot be drawn or counted
├── PixelsError           bytes or an image that cannot become RGB pixels
└── CheckpointError       a .pth or its manifest that cannot be trusted or does not fit
"""


class ModelError(Exception):
    """Base of everything `models` raises on purpose; the message names the file or field."""


class UnknownArchitectureError(ModelError):
    """No network is registered under this name."""


class ClassSetError(ModelError):
    """Class ids, names or colours are missing, repeated or out of range."""


class PixelsError(ModelError):
    """An image cannot be decoded into RGB pixels."""


class CheckpointError(ModelError):
    """A checkpoint is damaged, unsafe, or does not fit its architecture."""
