"""A request's bytes, made once before anything is timed."""

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
    content = photograph.path.read_bytes()
    if form == "raw":
        return _post(path, photograph.media_type, content, key)
    opening = (
        f"--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{photograph.path.name}"\r\n'
        f"Content-Type: {photograph.media_type}\r\n\r\n"
    )
    body = opening.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return _post(path, f"multipart/form-data; boundary={BOUNDARY}", body, key)


def _post(path: str, media_type: str, body: bytes, key: str | None) -> bytes:
    guarded = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        f"Accept: image/png\r\n{guarded}"
        f"Content-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
