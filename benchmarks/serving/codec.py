"""What stands around the network on one core: JPEG bytes to the network's pixels, labels to PNG.

The service's own functions, in a process of its own: `python -m benchmarks.serving.codec`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.serving.checkpoints import CPU, channels_last, network_inputs
from benchmarks.serving.figures import median
from benchmarks.serving.images import listed
from benchmarks.serving.own_process import answer, ask
from models import load_checkpoint
from models.geometry import resize_pixels
from models.upsample import segment_logits
from service.render import indexed_png
from service.upload import Upload, decode

TIMEOUT_S = 600.0
MAX_PIXELS = 100_000_000
PICTURES = 8


@dataclass(frozen=True)
class CodecTime:
    """Milliseconds of one core for each photograph: decoded and resized, and its mask encoded."""

    decode_ms: float
    encode_ms: float

    @property
    def ms(self) -> float:
        return self.decode_ms + self.encode_ms


def measure_codec(checkpoint: Path, pictures: Path, *, repeats: int) -> CodecTime:
    """Medians over `repeats` times each of some photographs and their masks by this network."""
    question = {"checkpoint": str(checkpoint), "pictures": str(pictures), "repeats": repeats}
    return CodecTime(**ask("benchmarks.serving.codec", question, timeout_s=TIMEOUT_S))


def respond(question: dict[str, Any]) -> dict[str, float]:
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(Path(question["checkpoint"]))
    spec = checkpoint.manifest.input
    class_set = checkpoint.manifest.class_set()
    found = listed(Path(question["pictures"]))[:PICTURES]
    uploads = [Upload(picture.path.name, picture.path.read_bytes()) for picture in found]
    network = channels_last(checkpoint, CPU)
    with torch.inference_mode():
        logits = network(network_inputs(found, spec))  # (N, K, h, w)
    labels = [
        segment_logits(each, picture.height, picture.width).labels
        for each, picture in zip(logits, found, strict=True)
    ]

    def prepare(upload: Upload) -> Tensor:
        return resize_pixels(decode(upload, max_pixels=MAX_PIXELS), spec.height, spec.width)

    repeats = question["repeats"]
    return {
        "decode_ms": _median_ms([lambda u=u: prepare(u) for u in uploads], repeats),  # type: ignore[misc]
        "encode_ms": _median_ms([lambda m=m: indexed_png(m, class_set) for m in labels], repeats),  # type: ignore[misc]
    }


def _median_ms(works: list[Callable[[], object]], repeats: int) -> float:
    """The median over all repeats of the mean over the works; the first repeat is left out."""
    took = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        for work in works:
            work()
        took.append((time.perf_counter() - began) * 1000 / len(works))
    return median(took[1:])


if __name__ == "__main__":
    answer(respond)
