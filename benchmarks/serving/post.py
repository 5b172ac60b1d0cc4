"""One image over HTTP, where the mask itself is wanted."""

import http.client

from benchmarks.serving.errors import BenchmarkError

TIMEOUT_S = 300.0


def post_image(port: int, content: bytes) -> bytes:
    """The PNG that the service answers; BenchmarkError with its complaint."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        headers = {"Accept": "image/png", "Content-Type": "application/octet-stream"}
        connection.request("POST", "/segment", content, headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(f"port {port}: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise BenchmarkError(f"{answer.status}: {body[:200].decode(errors='replace')}")
    return body
