"""What follows the forward pass, on one core: from logits to every pixel's class, the counts and
confidences of the classes, and the PNG.

`python -m benchmarks.serving.afterwards` does the measuring, in a process of its own: the service's
function beside the ways that do the same with what PyTorch and OpenVINO offer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.serving.checkpoints import CPU, channels_last, network_inputs
from benchmarks.serving.figures import median
from benchmarks.serving.images import listed
from benchmarks.serving.own_process import answer, ask
from models import load_checkpoint
from models.private_import import import_private
from models.upsample import segment_logits
from models.winners import class_sums
from service.render import indexed_png

TIMEOUT_S = 1800.0
PICTURES = 4
LEAST = 3
Way = Callable[[Tensor, int, int], Tensor]  # logits (K, h, w), height, width -> labels (H, W)


@dataclass(frozen=True)
class AfterTime:
    """Milliseconds of one image by one way; the share of its pixels that have the class of the
    first way; None for a way whose package is absent."""

    way: str
    width: int
    height: int
    ms: float | None
    same: float | None


def measure_afterwards(
    checkpoint: Path, pictures: Path, sizes: list[tuple[int, int]], *, seconds: float
) -> list[AfterTime]:
    """Medians for the logits that a network gives for photographs, at sizes (width, height)."""
    question = {
        "checkpoint": str(checkpoint),
        "pictures": str(pictures),
        "sizes": sizes,
        "seconds": seconds,
    }
    rows = ask("benchmarks.serving.afterwards", question, timeout_s=TIMEOUT_S)
    return [AfterTime(**row) for row in rows]


def respond(question: dict[str, Any]) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    checkpoint = load_checkpoint(Path(question["checkpoint"]))
    pictures = listed(Path(question["pictures"]))[:PICTURES]
    with torch.inference_mode():
        inputs = network_inputs(pictures, checkpoint.manifest.input)
        logits = channels_last(checkpoint, CPU)(inputs).contiguous()  # (N, K, h, w)
        noise = 3 * torch.randn_like(logits[0])
        rows: list[dict[str, Any]] = []
        for width, height in question["sizes"]:
            rows += _compare(logits, width, height, question["seconds"])
            ms = _median_ms(lambda: segment_logits(noise, height, width), question["seconds"])  # noqa: B023
            rows.append(_row("the service's, a mask of nothing but noise", width, height, ms, None))
            labels = segment_logits(logits[0], height, width).labels.numpy()
            ms = _median_ms(lambda: indexed_png(labels, checkpoint.manifest.class_set()), 1.0)  # noqa: B023
            rows.append(_row("the mask as PNG", width, height, ms, None))
    return rows


def _compare(logits: Tensor, width: int, height: int, seconds: float) -> list[dict[str, Any]]:
    first = [logits_then_argmax(each, height, width) for each in logits]
    rows = []
    for name, way in _ways(logits, height, width).items():
        if way is None:
            rows.append(_row(name, width, height, None, None))
            continue
        times = [_median_ms(lambda e=each: way(e, height, width), seconds) for each in logits]  # type: ignore[misc]  # noqa: B023
        same = [
            float((way(each, height, width) == labels).float().mean())
            for each, labels in zip(logits, first, strict=True)
        ]
        rows.append(_row(name, width, height, sum(times) / len(times), min(same)))
    return rows


def _ways(logits: Tensor, height: int, width: int) -> dict[str, Way | None]:
    return {
        "logits resized, softmax, argmax": logits_then_argmax,
        "logits resized, softmax, max": logits_then_max,
        "softmax, probabilities resized, max": probabilities_then_max,
        "OpenVINO: softmax, resize, TopK": _openvino_way(logits[0], height, width),
        "the service's": lambda each, h, w: segment_logits(each, h, w).labels,
    }


def logits_then_argmax(logits: Tensor, height: int, width: int) -> Tensor:
    probabilities = _resized(logits, height, width).softmax(0)
    labels = probabilities.argmax(0)
    class_sums(labels, probabilities.gather(0, labels[None])[0], len(logits))
    return labels


def logits_then_max(logits: Tensor, height: int, width: int) -> Tensor:
    best, labels = _resized(logits, height, width).softmax(0).max(0)
    class_sums(labels, best, len(logits))
    return labels


def probabilities_then_max(logits: Tensor, height: int, width: int) -> Tensor:
    best, labels = _resized(logits.softmax(0), height, width).max(0)
    class_sums(labels, best, len(logits))
    return labels


def _resized(planes: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(planes[None], size=(height, width), mode="bilinear", align_corners=False)[
        0
    ]


def _openvino_way(logits: Tensor, height: int, width: int) -> Way | None:
    """The same as a graph of OpenVINO's, on one thread; None where it is not installed."""
    try:
        ov = import_private("openvino")
    except ImportError:
        return None
    ops = ov.opset13
    given = ops.parameter([1, *logits.shape], ov.Type.f32)
    resized = ops.interpolate(
        ops.softmax(given, axis=1),
        ops.constant([height, width], ov.Type.i64),
        mode="linear_onnx",
        shape_calculation_mode="sizes",
        coordinate_transformation_mode="half_pixel",
        axes=ops.constant([2, 3], ov.Type.i64),
    )
    best = ops.topk(resized, ops.constant(1, ov.Type.i64), axis=1, mode="max", sort="none")
    model = ov.Model([best.output(0), best.output(1)], [given], "afterwards")
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", options).create_infer_request()

    def way(each: Tensor, height: int, width: int) -> Tensor:
        request.infer({0: each[None].numpy()}, share_inputs=True)
        labels = torch.from_numpy(request.get_output_tensor(1).data)[0, 0].long()
        best = torch.from_numpy(request.get_output_tensor(0).data)[0, 0]
        class_sums(labels, best, len(each))
        return labels

    return way


def _median_ms(work: Callable[[], object], seconds: float) -> float:
    """The first time is left out."""
    work()
    took: list[float] = []
    while len(took) < LEAST or sum(took) < 1000 * seconds:
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return median(took)


def _row(way: str, width: int, height: int, ms: float | None, same: float | None) -> dict[str, Any]:
    return {"way": way, "width": width, "height": height, "ms": ms, "same": same}


if __name__ == "__main__":
    answer(respond)
