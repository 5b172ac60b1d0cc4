"""Which representation of an answer a client wants."""

from typing import Literal

from service.errors import NotAcceptableError

Output = Literal["json", "png"]
MEDIA_TYPES: dict[str, Output] = {"application/json": "json", "image/png": "png"}


def choose_output(accept: str | None, output: Output | None) -> Output:
    """The `output` query wins; else the Accept header's best match, JSON on a tie (RFC 9110)."""
    if output is not None:
        return output
    if accept is None or not accept.strip():
        return "json"
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    quality = {name: _quality(media_type, ranges) for media_type, name in MEDIA_TYPES.items()}
    best = max(quality, key=lambda name: quality[name])  # the first of equals: JSON
    if quality[best] == 0:
        raise NotAcceptableError(
            f"Accept {accept[:200]!r} leaves nothing; there are {', '.join(MEDIA_TYPES)}"
        )
    return best


def _media_range(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                quality = min(max(0.0, float(value)), 1.0)  # in this order NaN counts as 0
            except ValueError:
                quality = 0.0
    return media_type.lower(), quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """The most specific range that matches decides."""
    family = media_type.split("/")[0] + "/*"
    for pattern in (media_type, family, "*/*"):
        matching = [quality for name, quality in ranges if name == pattern]
        if matching:
            return max(matching)
    return 0.0
