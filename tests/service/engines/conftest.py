"""A checkpoint that is sure of its answers, and what is wished of whatever runs it."""

from pathlib import Path

import pytest

from models import Checkpoint
from service.engines.choose import Wishes
from tests.service.colours import colour_manifest, colour_network, encoded, picture_of


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(colour_network(), colour_manifest())


@pytest.fixture
def wishes(tmp_path: Path) -> Wishes:
    """With golden images that the colour network is sure of."""
    golden = tmp_path / "golden"
    golden.mkdir()
    for seed in range(3):
        (golden / f"{seed}.png").write_bytes(encoded(picture_of(32, 32, seed=seed)))
    exports = tmp_path / "exports"
    exports.mkdir()
    return Wishes(device="cpu", exports=exports, golden_images=golden)
