"""The registry of networks."""

import pytest

from models import ModelError, architectures, build, list_architectures
from models.architectures import architecture, register
from models.errors import UnknownArchitectureError
from models.network import SegmentationNetwork
from models.unet import UNet


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[SegmentationNetwork]]:
    """A copy of the registry, which the test may change."""
    copy = dict(architectures._REGISTRY)
    monkeypatch.setattr(architectures, "_REGISTRY", copy)
    return copy


def test_lists_the_networks_sorted() -> None:
    """A network that is added needs a test class of its own, from `network_contract`."""
    assert list_architectures() == [
        "unet",
        "unet_efficientnet_lite0",
        "unet_resnet50",
        "unet_resnet50_full",
    ]


def test_build_returns_the_registered_class() -> None:
    assert type(build("unet", base_channels=2)) is UNet
    assert architecture("unet") is UNet


def test_the_defaults_are_the_reports() -> None:
    assert build("unet_resnet50").num_classes == 22
    assert build("unet_resnet50").base_channels == 64
    assert build("unet_resnet50").in_channels == 3


@pytest.mark.usefixtures("registry")
def test_a_registered_class_can_be_built() -> None:
    @register("other")
    class Other(UNet):
        pass

    assert type(build("other", base_channels=2)) is Other
    assert "other" in list_architectures()


def test_a_name_taken_twice_raises_and_keeps_the_first(
    registry: dict[str, type[SegmentationNetwork]],
) -> None:
    with pytest.raises(ValueError, match="'unet' is registered twice"):
        register("unet")(UNet)
    assert registry["unet"] is UNet


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UnknownArchitectureError) as caught:
        build("unett")
    message = str(caught.value)
    assert "'unett'" in message
    for name in list_architectures():
        assert name in message
    assert isinstance(caught.value, ModelError)


@pytest.mark.parametrize("name", list_architectures())
@pytest.mark.parametrize("argument", ["num_classes", "base_channels", "in_channels"])
@pytest.mark.parametrize("value", [0, -1])
def test_an_impossible_argument_is_named(name: str, argument: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got {value}"):
        build(name, **{argument: value})
