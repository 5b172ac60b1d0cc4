"""The registry of networks: a name, a class, and how to build one."""

from collections.abc import Callable
from typing import TypeVar

from models.errors import UnknownArchitectureError
from models.network import SegmentationNetwork

Network = TypeVar("Network", bound=SegmentationNetwork)

_REGISTRY: dict[str, type[SegmentationNetwork]] = {}


def register(name: str) -> Callable[[type[Network]], type[Network]]:
    """Class decorator; a name taken twice is a programming error and raises ValueError."""

    def add(network: type[Network]) -> type[Network]:
        if name in _REGISTRY:
            raise ValueError(f"architecture {name!r} is registered twice")
        _REGISTRY[name] = network
        return network

    return add


def list_architectures() -> list[str]:
    return sorted(_REGISTRY)


def architecture(name: str) -> type[SegmentationNetwork]:
    try:
        return _REGISTRY[name]
    except KeyError:
        choices = ", ".join(list_architectures())
        raise UnknownArchitectureError(
            f"unknown architecture {name!r}; choose from {choices}"
        ) from None


def build(
    name: str, *, num_classes: int = 22, base_channels: int = 64, in_channels: int = 3
) -> SegmentationNetwork:
    """A network with fresh weights; `base_channels` scales the widths that are not fixed."""
    network = architecture(name)
    for argument, value in (
        ("num_classes", num_classes),
        ("base_channels", base_channels),
        ("in_channels", in_channels),
    ):
        if value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}")
    return network(num_classes=num_classes, base_channels=base_channels, in_channels=in_channels)
