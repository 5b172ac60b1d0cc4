"""A request's bytes, made once before anything is timed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BOUNDARY = "----------------boundary0f5e2c"

Form = Literal["raw", "multipart"]


@dataclass(frozen=True)
class Photograph:
    """An encoded image and the size its mask must have."""

    path: Path
    media_type: str
    width: int
    height: int

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


def request_bytes(
    photograph: Photograph, path: str, *, form: Form, key: str | None = None
) -> bytes:
    """`POST path` with the image as the body, or as the field `file` of a form, and a key."""
    if form == "raw":
        return _post(path, photograph.media_type, photograph.path.read_bytes(), key)
    return _post_form(path, [photograph], key)


def batch_bytes(photographs: Sequence[Photograph], path: str, *, key: str | None = None) -> bytes:
    """`POST path` with every image as a field `file`; the answer is JSON."""
    return _post_form(path, photographs, key, accept="application/json")


def _post_form(
    path: str, photographs: Sequence[Photograph], key: str | None, *, accept: str = "image/png"
) -> bytes:
    parts = [
        f"--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{each.path.name}"\r\n'
        f"Content-Type: {each.media_type}\r\n\r\n".encode()
        + each.path.read_bytes()
        + b"\r\n"
        for each in photographs
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return _post(path, f"multipart/form-data; boundary={BOUNDARY}", body, key, accept=accept)


def _post(
    path: str, media_type: str, body: bytes, key: str | None, *, accept: str = "image/png"
) -> bytes:
    guarded = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        f"Accept: {accept}\r\n{guarded}"
        f"Content-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
