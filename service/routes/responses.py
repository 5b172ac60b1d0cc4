"""What the OpenAPI document says of answers that several routes give."""

from typing import Any

Responses = dict[int | str, dict[str, Any]]

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "required": True, "schema": {"type": kind}}


RETRY_AFTER = {"Retry-After": _header("seconds", "integer")}
CHALLENGE = {"WWW-Authenticate": _header("Bearer, and what was wrong with the key that was sent")}
MODEL_HEADERS = {
    "X-Model": _header("which model answered, percent-encoded"),
    "X-Model-Digest": {**_header("sha256 of its weights"), "required": False},
}
TIMING_HEADERS = {"Server-Timing": _header("milliseconds of each stage")}


def problem(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    """An answer that is a problem document."""
    found: dict[str, Any] = {"description": description, "content": PROBLEM}
    return found if headers is None else {**found, "headers": headers}


ERRORS: Responses = {
    400: problem("not an image, or a broken one"),
    404: problem("unknown model"),
    408: problem("an upload that comes too slowly"),
    413: problem("too many bytes or pixels, or too much work for them"),
    415: problem("a body that cannot hold an image"),
    422: problem("the field is missing or is not a file"),
    500: problem("the network failed on this image"),
    503: problem("all places are taken, or the service is stopping", RETRY_AFTER),
    504: problem("no answer within the time that it is of use"),
}
GUARDED: Responses = {
    401: problem("no API key, or one that is unknown", CHALLENGE),
    403: problem("the API key lacks the scope"),
    429: problem("too many requests in a minute", RETRY_AFTER),
}
