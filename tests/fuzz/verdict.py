"""Whether an answer is one that the service may give."""

import base64
import io
from dataclasses import dataclass

import httpx
from PIL import Image

REFUSALS = (400, 413, 415, 422)
MAX_CPU_S = 5.0
MAX_MEMORY_BYTES = 256 << 20  # beyond what was there before: 4,000,000 pixels many times over


@dataclass(frozen=True)
class Outcome:
    """Of one case; `failure` is None where all is well, `memory` None where it is not measured."""

    number: int
    status: int
    kind: str
    cpu_s: float
    memory: int | None
    failure: str | None


def judge(number: int, response: httpx.Response, cpu_s: float, memory: int | None) -> Outcome:
    try:
        kind, failure = _kind_of(response), None
    except (ValueError, KeyError, TypeError, OSError) as error:
        kind, failure = "neither mask nor problem", f"{type(error).__name__}: {error}"
    if response.status_code not in (200, *REFUSALS):
        failure = f"status {response.status_code}"
    elif cpu_s > MAX_CPU_S:
        failure = f"{cpu_s:.1f} s of CPU, the bound is {MAX_CPU_S}"
    elif memory is not None and memory > MAX_MEMORY_BYTES:
        failure = f"{memory >> 20} MiB, the bound is {MAX_MEMORY_BYTES >> 20}"
    return Outcome(number, response.status_code, kind, cpu_s, memory, failure)


def _kind_of(response: httpx.Response) -> str:
    """Its title, or what holds the mask; ValueError and others where it is not valid."""
    media_type = response.headers["content-type"]
    if response.status_code == 200 and media_type == "image/png":
        _size_of(response.content)
        return "PNG"
    answer = response.json()
    if response.status_code == 200:
        size = _size_of(base64.b64decode(answer["mask"]["data"], validate=True))
        counted = sum(entry["pixels"] for entry in answer["classes"])
        if size != (answer["width"], answer["height"]) or counted != size[0] * size[1]:
            raise ValueError(
                f"mask {size}, {counted} pixels, answer {answer['width']}x{answer['height']}"
            )
        return "JSON"
    if media_type != "application/problem+json" or answer["status"] != response.status_code:
        raise ValueError(f"{media_type}, status {answer['status']}")
    if not answer["detail"] or answer["request_id"] != response.headers["x-request-id"]:
        raise ValueError("a problem without detail or with another request's id")
    if "site-packages" in response.text or "Traceback" in response.text:
        raise ValueError("the answer tells of the server's insides")
    return str(answer["title"])


def _size_of(mask: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(mask)) as image:
        image.load()
        if image.format != "PNG" or image.mode not in ("P", "1"):
            raise ValueError(f"the mask is {image.format} in mode {image.mode}")
        return image.size
