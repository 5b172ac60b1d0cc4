"""What stands around the network on one core: JPEG bytes to the network's pixels, its
logits to labels, labels to PNG.

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
from benchmarks.serving.request import Photograph
from models import load_checkpoint
from models.geometry import resize_pixels
from models.upsample import segment_logits
from service.render import indexed_png
from service.upload import Upload, decode, read_header

TIMEOUT_S = 600.0
MAX_PIXELS = 100_000_000
PICTURES = 8


@dataclass(frozen=True)
class CodecTime:
    """Milliseconds of one core for each photograph: decoded and resized, its mask encoded, and,
    between them, its classes chosen at its own size."""

    decode_ms: float
    encode_ms: float
    upsample_ms: float

    @property
    def ms(self) -> float:
        """What cannot be left out."""
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
        logits = network.native_logits(network_inputs(found, spec))
    logits = logits.bfloat16().contiguous(memory_format=torch.channels_last)  # as with AMX

    def choose(each: Tensor, picture: Photograph) -> Tensor:
        return segment_logits(each, picture.height, picture.width).labels

    pairs = list(zip(logits, found, strict=True))
    labels = [choose(*pair).numpy() for pair in pairs]

    def prepare(upload: Upload) -> Tensor:
        pixels = decode(upload, read_header(upload, max_pixels=MAX_PIXELS))
        return resize_pixels(pixels, spec.height, spec.width)

    repeats = question["repeats"]
    return {
        "decode_ms": _median_ms([lambda u=u: prepare(u) for u in uploads], repeats),  # type: ignore[misc]
        "upsample_ms": _median_ms([lambda p=p: choose(*p) for p in pairs], repeats),  # type: ignore[misc]
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
