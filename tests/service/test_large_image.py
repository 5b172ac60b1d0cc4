"""A hundred megapixels in bounded memory: what an image takes follows the tile, or the network's
resolution, and not the image, whose logits alone would be nine gigabytes."""

import base64
import io
import signal
import sys
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.serving.process import peak_mib, reset_peak, resident_mib
from models import save_checkpoint
from tests.networks import manifest_for, small_network
from tests.service.clients import GOOD
from tests.service.server import launch

SIDE = 10_000
LIMIT_MIB = 1536
TILE = 512
NUM_CLASSES = 22


@pytest.fixture(scope="module")
def large_jpeg() -> bytes:
    ramp = np.linspace(0, 255, SIDE, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[:, None, None], (SIDE, SIDE, 3)).copy()
    pixels[..., 1] = ramp
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=50)
    return written.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("mode", ["tile", "resize"])
def test_a_hundred_megapixels_take_bounded_memory(
    mode: Literal["tile", "resize"], tmp_path: Path, large_jpeg: bytes
) -> None:
    network = small_network("unet", num_classes=NUM_CLASSES, base_channels=1)
    manifest = manifest_for(network, "unet")
    spec = manifest.input.model_copy(
        update={"mode": mode, "height": TILE, "width": TILE, "overlap": 0.1}
    )
    named = manifest.model_copy(update={"input": spec})
    save_checkpoint(tmp_path / "large.pth", network.state_dict(), named)
    server = launch(
        *("--checkpoints", tmp_path, "--port", "0", "--precision", "float32"),
        *("--request-timeout-s", "300"),
    )
    try:
        server.wait_until_listening()
        assert httpx.post(f"{server.url}/segment", content=GOOD, timeout=60).status_code == 200
        idle = resident_mib(server.process.pid)
        reset_peak(server.process.pid)
        answer = httpx.post(f"{server.url}/segment", content=large_jpeg, timeout=300)
        peak = peak_mib(server.process.pid)
    finally:
        server.stop(signal.SIGTERM)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["height"], body["width"]) == (SIDE, SIDE)
    assert sum(entry["pixels"] for entry in body["classes"]) == SIDE * SIDE
    assert base64.b64decode(body["mask"]["data"])[16:24] == 2 * SIDE.to_bytes(4)
    assert peak - idle < LIMIT_MIB
