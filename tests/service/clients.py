"""Apps under test, and what every refusal looks like."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from service.app import create_app
from service.security.keys import new_key
from service.settings import Settings
from tests.service.colours import encoded, plain

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
GOOD = encoded(plain(1, 12, 10))
LARGE = GOOD + bytes(
    100_001 - len(GOOD)
)  # one byte over the limit of `client`; decoders stop at IEND
_admin, _admin_key = new_key("tests", frozenset({"admin"}))
ADMIN_KEYS = _admin_key.line()  # for the setting `api_keys`
AS_ADMIN = {"Authorization": f"Bearer {_admin}"}
LARGE_PASSES = 64 * 32 * 32
SMALL_PASSES = 4 * 32 * 32  # of four images that are as large as the colour network takes
# what an answer must not tell about the machine it comes from
LEAKS = ("Traceback", "site-packages", str(ROOT), str(Path.home()), tempfile.gettempdir())


def settings_for(folder: Path, **changes: Any) -> Settings:
    """Exact arithmetic, two threads, large passes; everything else as delivered."""
    given = {
        "model": "colours",
        "device": "cpu",
        "engine": "torch",
        "precision": "float32",
        "threads": 2,
        "batch_pixels": LARGE_PASSES,
        **changes,
    }
    return Settings(checkpoints=folder, **given)


class Client:
    """Blocking requests to a started app; its event loop runs in a thread of its own."""

    def __init__(self, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self._portal.call(lambda: self._client.request(method, url, **options))

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)


@asynccontextmanager
async def async_client_for(
    app: FastAPI, *, raise_errors: bool = False, headers: Mapping[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A started app; with `raise_errors` an unexpected error is raised rather than answered.
    `headers` are sent with every request."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=raise_errors)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://test", timeout=60, headers=headers
        ) as client,
    ):
        yield client


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A started app over a folder, with these settings, for an administrator; small passes, which
    are soon warm."""
    given = {"batch_pixels": SMALL_PASSES, "api_keys": ADMIN_KEYS, **changes}
    async with async_client_for(
        create_app(settings_for(folder, **given)), headers=AS_ADMIN
    ) as client:
        yield client


def finished(work: Coroutine[Any, Any, T]) -> T:
    """What the work returns, in an event loop of its own; a minute is enough for any."""
    return asyncio.run(asyncio.wait_for(work, 60))


@contextmanager
def client_for(
    app: FastAPI, *, raise_errors: bool = False, headers: Mapping[str, str] | None = None
) -> Iterator[Client]:
    """`async_client_for` for tests that send one request at a time."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            async_client_for(app, raise_errors=raise_errors, headers=headers)
        ) as client,
    ):
        yield Client(portal, client)


def assert_problem(response: httpx.Response, status: int, *named: str) -> dict[str, Any]:
    """RFC 9457 with a request id; the detail names what is wrong and nothing about the host."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["request_id"] == response.headers["x-request-id"]
    for word in named:
        assert word in problem["detail"]
    assert not [leak for leak in LEAKS if leak in response.text]
    return problem


def assert_still_serves(client: Client) -> None:
    response = client.post("/segment", content=GOOD)
    assert response.status_code == 200, response.text
    assert [entry["name"] for entry in response.json()["classes"]] == ["red"]


async def post(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
    return await client.post("/segment", files={"file": ("p", content)})
