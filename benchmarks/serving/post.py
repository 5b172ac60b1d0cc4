"""One request over HTTP: an image, where the mask itself is wanted, or a change of models."""

import http.client
from collections.abc import Mapping

from benchmarks.serving.errors import BenchmarkError

TIMEOUT_S = 300.0


def post_image(port: int, content: bytes) -> bytes:
    """The PNG that the service answers; BenchmarkError with its complaint."""
    headers = {"Accept": "image/png", "Content-Type": "application/octet-stream"}
    return _post(port, "/segment", content, headers)


def post_change(port: int, model: str, action: str, key: str | None) -> None:
    """`action` is load, activate or unload; BenchmarkError with the service's complaint."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    _post(port, f"/models/{model}/{action}", b"", headers)


def _post(port: int, path: str, content: bytes, headers: Mapping[str, str]) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, content, dict(headers))
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(f"port {port}: {error}") from error
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise BenchmarkError(f"{answer.status}: {body[:200].decode(errors='replace')}")
    return body
