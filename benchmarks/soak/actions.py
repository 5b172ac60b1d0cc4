"""What a client may do, and what must come of it."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection

from benchmarks.serving.png import png_size, verify_png
from benchmarks.serving.request import BOUNDARY, Photograph

TIMEOUT_S = 60.0
MAX_UPLOAD_BYTES = 8 * 1024 * 1024  # larger than any of the pictures


class UnexpectedError(Exception):
    """An answer that is not what it must be."""


@dataclass(frozen=True)
class Visit:
    """A client's connection and what it may send; `random` is its own."""

    connection: HTTPConnection
    pictures: list[Photograph]
    headers: dict[str, str]
    random: random.Random

    def picture(self) -> tuple[Photograph, bytes]:
        picture = self.random.choice(self.pictures)
        return picture, picture.path.read_bytes()

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        return self.ask("POST", path, body, **headers)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body or None, self.headers | named)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


Action = Callable[[Visit], None]


def mask(visit: Visit) -> None:
    picture, content = visit.picture()
    status, body = visit.post("/segment", content, Accept="image/png")
    _expect(status, body, 200)
    if png_size(body) != (picture.width, picture.height):
        raise UnexpectedError(f"a mask of {png_size(body)} for {picture.path.name}")
    verify_png(body)


def statistics(visit: Visit) -> None:
    picture, content = visit.picture()
    status, body = visit.post("/segment", content, Content_Type=picture.media_type)
    _expect(status, body, 200)
    pixels = sum(entry["pixels"] for entry in json.loads(body)["classes"])
    if pixels != picture.width * picture.height:
        raise UnexpectedError(f"{pixels} pixels for {picture.path.name}")


def batch(visit: Visit) -> None:
    """With a broken one among good ones."""
    contents = [visit.picture()[1] for _ in range(visit.random.randint(1, 6))]
    contents.insert(visit.random.randrange(len(contents) + 1), b"no image")
    status, body = visit.post("/segment/batch", _form(contents), Content_Type=FORM)
    _expect(status, body, 200)
    found = [item["status"] for item in json.loads(body)["results"]]
    if found != [400 if content == b"no image" else 200 for content in contents]:
        raise UnexpectedError(f"a batch answered {found}")


def truncated(visit: Visit) -> None:
    _, content = visit.picture()
    cut = content[: visit.random.randrange(len(content) // 2)]
    status, body = visit.post("/segment", cut)
    if status not in (200, 400):  # a format may do without its end
        raise UnexpectedError(f"{status} for a truncated image: {body[:200]!r}")


def garbage(visit: Visit) -> None:
    _expect(*_without_type(visit, visit.random.randbytes(5000)), status=400)


def nothing(visit: Visit) -> None:
    _expect(*_without_type(visit, b""), status=400)


def too_large(visit: Visit) -> None:
    _expect(*_without_type(visit, bytes(MAX_UPLOAD_BYTES + 100_000)), status=413)


def unknown_model(visit: Visit) -> None:
    _expect(*visit.post("/segment?model=nobody", visit.picture()[1]), status=404)


def wrong_field(visit: Visit) -> None:
    form = _form([b"x"]).replace(b'name="file"', b'name="photo"')
    _expect(*visit.post("/segment", form, Content_Type=FORM), status=422)


def without_key(visit: Visit) -> None:
    visit.connection.request("POST", "/segment", visit.picture()[1])
    answer = visit.connection.getresponse()
    _expect(answer.status, answer.read(), status=401)


def looks_around(visit: Visit) -> None:
    for path in ("/models", "/metrics", "/healthz", "/readyz", "/"):
        _expect(*visit.ask("GET", path), status=200)


def hangs_up(visit: Visit) -> None:
    """Somewhere between the first byte of a request and its answer."""
    _, content = visit.picture()
    connection = visit.connection
    connection.putrequest("POST", "/segment")
    for name, value in (visit.headers | {"Content-Length": str(len(content))}).items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(content[: visit.random.randrange(len(content) + 1)])
    connection.close()


# how often each is done, among a hundred
WEIGHTS: dict[Action, int] = {
    mask: 40,
    statistics: 20,
    batch: 8,
    truncated: 6,
    garbage: 4,
    nothing: 2,
    too_large: 1,
    unknown_model: 4,
    wrong_field: 3,
    without_key: 3,
    looks_around: 2,
    hangs_up: 7,
}
FORM = f"multipart/form-data; boundary={BOUNDARY}"
PART = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n'


def _form(contents: list[bytes]) -> bytes:
    parts = [PART.encode() + content + b"\r\n" for content in contents]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def _without_type(visit: Visit, body: bytes) -> tuple[int, bytes]:
    return visit.post("/segment", body, Content_Type="application/octet-stream")


def _expect(found: int, body: bytes, status: int) -> None:
    if found != status:
        raise UnexpectedError(f"{found} instead of {status}: {body[:300]!r}")
