"""What every peer does around its server: read, normalise, run, resize, choose, colour, write.

As a first implementation has it: Pillow, float32, argmax of the resized logits, an RGB PNG.
"""

import io
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2 as T

from models import load_checkpoint

CHECKPOINT = "BENCH_CHECKPOINT"
PORT = "BENCH_PORT"
WORKERS = "BENCH_WORKERS"
THREADS = "BENCH_THREADS"
MAX_BATCH = 8
BATCH_WAIT_S = 0.01


def workers() -> int:
    return int(os.environ[WORKERS])


class Network:
    """The checkpoint that the environment names; each worker process makes its own."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ[THREADS]))
        checkpoint = load_checkpoint(Path(os.environ[CHECKPOINT]))
        spec = checkpoint.manifest.input
        self.network = checkpoint.network.eval()
        self.prepare = T.Compose(
            [
                T.Resize((spec.height, spec.width)),
                T.PILToTensor(),
                T.ToDtype(torch.float32, scale=True),
                T.Normalize(spec.mean, spec.std),
            ]
        )
        palette = checkpoint.manifest.class_set().palette()
        self.colors = np.frombuffer(palette, dtype=np.uint8).reshape(-1, 3)

    def input_of(self, image: Image.Image) -> Tensor:
        """float32 (3, h, w)."""
        prepared: Tensor = self.prepare(image.convert("RGB"))
        return prepared

    @torch.inference_mode()
    def logits(self, inputs: Tensor) -> Tensor:
        """float32 (N, 3, h, w) -> (N, K, h, w)."""
        found: Tensor = self.network(inputs)
        return found

    @torch.inference_mode()
    def mask(self, logits: Tensor, width: int, height: int) -> Image.Image:
        """Logits (K, h, w) -> RGB of the upload's size."""
        resized = F.interpolate(
            logits[None], size=(height, width), mode="bilinear", align_corners=False
        )
        labels = resized.argmax(1)[0].numpy()  # (height, width)
        return Image.fromarray(self.colors[labels])

    def answer(self, content: bytes) -> bytes:
        """An encoded image -> the PNG of its mask, alone."""
        image = Image.open(io.BytesIO(content))
        logits = self.logits(self.input_of(image)[None])[0]
        return png(self.mask(logits, image.width, image.height))


def png(mask: Image.Image) -> bytes:
    stream = io.BytesIO()
    mask.save(stream, format="PNG")
    return stream.getvalue()
