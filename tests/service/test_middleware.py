"""Request ids, the byte limit, and headers for browsers."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.app import create_app
from service.errors import TooLargeError
from service.middleware import DRAIN_BYTES, BodyLimit, RequestContext
from tests.service.clients import GOOD, Client, assert_problem, client_for, settings_for

SANE = ["abc-123", "a", "x" * 128, "!~", "trace:00-4bf92f/7"]
INSANE = ["", "x" * 129, "x" * 5000, "two words", "caf\xe9", "tab\there", "\x7f", "\x01"]


class TestRequestId:
    @pytest.mark.parametrize("given", SANE)
    def test_a_sane_id_is_echoed(self, client: Client, given: str) -> None:
        response = client.get("/healthz", headers={"X-Request-ID": given})
        assert response.headers["x-request-id"] == given

    @pytest.mark.parametrize("given", INSANE, ids=[f"insane {n}" for n in range(len(INSANE))])
    def test_another_is_replaced(self, client: Client, given: str) -> None:
        raw = {b"X-Request-ID": given.encode("latin-1")}
        response = client.get("/healthz", headers=raw)
        assert len(response.headers["x-request-id"]) == 32
        assert response.headers["x-request-id"].isalnum()

    def test_without_one_every_request_gets_its_own(self, client: Client) -> None:
        ids = {client.get("/healthz").headers["x-request-id"] for _ in range(3)}
        assert len(ids) == 3

    def test_a_refusal_repeats_it_in_header_and_body(self, client: Client) -> None:
        response = client.get("/nowhere", headers={"X-Request-ID": "mine"})
        assert assert_problem(response, 404)["request_id"] == "mine"

    def test_other_protocols_pass_untouched(self) -> None:
        seen: list[Scope] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)

        scope = {"type": "lifespan"}
        asyncio.run(RequestContext(app)(scope, _no_body, _dropped))
        assert seen == [{"type": "lifespan"}]


class TestHeaders:
    @pytest.mark.parametrize(
        "path", ["/", "/healthz", "/models", "/docs", "/openapi.json", "/nowhere", "/web/none"]
    )
    def test_no_answer_is_to_be_sniffed(self, client: Client, path: str) -> None:
        assert client.get(path).headers["x-content-type-options"] == "nosniff"

    def test_the_page_may_load_from_here_alone_and_not_be_framed(self, client: Client) -> None:
        policy = client.get("/").headers["content-security-policy"]
        directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        assert directives["default-src"] == "'self'"
        assert directives["object-src"] == "'none'"
        assert directives["frame-ancestors"] == "'none'"
        assert "unsafe" not in policy
        assert "http" not in policy

    @pytest.mark.parametrize("path", ["/", "/docs", "/models", "/nowhere", "/web/page.js"])
    def test_no_answer_is_framed_embedded_or_says_where_it_came_from(
        self, client: Client, path: str
    ) -> None:
        headers = client.get(path).headers
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"

    def test_the_documentation_loads_from_here_alone(self, client: Client) -> None:
        policy = client.get("/docs").headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "http" not in policy

    @pytest.mark.parametrize("path", ["/models", "/models/nobody", "/healthz", "/openapi.json"])
    def test_an_answer_runs_nothing_and_is_kept_by_no_cache(
        self, client: Client, path: str
    ) -> None:
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"


class TestOtherOrigins:
    ASKED: ClassVar[dict[str, str]] = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }

    def test_their_pages_are_let_in_by_nothing(self, client: Client) -> None:
        response = client.get("/models", headers={"Origin": "https://a.example"})
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert_problem(client.request("OPTIONS", "/segment", headers=self.ASKED), 405)

    def test_those_that_are_named_may_call_with_a_key(self, folder: Path) -> None:
        settings = settings_for(folder, cors_origin="https://a.example,https://b.example")
        with client_for(create_app(settings)) as client:
            asked = client.request("OPTIONS", "/segment", headers=self.ASKED)
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-origin"] == "https://a.example"
            assert "Authorization" in asked.headers["access-control-allow-headers"]
            assert "access-control-allow-credentials" not in asked.headers
            other = client.get("/models", headers={"Origin": "https://evil.example"})
            assert "access-control-allow-origin" not in other.headers


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _dropped(message: Message) -> None:
    pass


class Sender:
    """A client's body in chunks; `taken` bytes of it were read."""

    def __init__(self, chunks: Iterable[bytes], *, stalls: bool = False) -> None:
        self.chunks = list(chunks)
        self.stalls = stalls
        self.taken = 0

    async def receive(self) -> Message:
        if not self.chunks:
            if self.stalls:
                await asyncio.sleep(3600)
            return {"type": "http.disconnect"}
        chunk = self.chunks.pop(0)
        self.taken += len(chunk)
        more = bool(self.chunks) or self.stalls
        return {"type": "http.request", "body": chunk, "more_body": more}


def read_limited(
    sender: Sender, headers: Mapping[str, str], *, limit: int = 10, reads: bool = True
) -> tuple[int, bytes]:
    """Status and body that an app behind BodyLimit answers with: an echo, or 413, or 406 when it
    does not even read."""
    answer: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        status, body = (200, bytearray()) if reads else (406, bytearray())
        try:
            more = reads
            while more:
                message = await receive()
                body.extend(message["body"])
                more = message["more_body"]
        except TooLargeError as error:
            status, body = 413, bytearray(error.detail.encode())
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": bytes(body)})

    async def send(message: Message) -> None:
        answer.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "path": "/x", "headers": raw}
    asyncio.run(BodyLimit(app, lambda path: limit)(scope, sender.receive, send))
    start, body = answer
    return start["status"], body["body"]


CHUNKED = {"transfer-encoding": "chunked"}


class TestBodyLimit:
    def test_a_body_of_exactly_the_limit_passes_unchanged(self) -> None:
        for headers in ({"content-length": "10"}, CHUNKED):
            sender = Sender([b"abc", b"", b"defg", b"hij"])
            assert read_limited(sender, headers) == (200, b"abcdefghij")

    def test_one_byte_more_is_refused_whatever_the_length_says(self) -> None:
        for headers in (CHUNKED, {"content-length": "3"}, {"content-length": "nonsense"}):
            status, detail = read_limited(Sender([b"abcdefghij", b"k"]), headers)
            assert (status, b"limit of 10 bytes" in detail) == (413, True)

    def test_a_length_over_the_limit_is_refused_though_little_comes(self) -> None:
        status, _ = read_limited(Sender([b"abc"]), {"content-length": "11"})
        assert status == 413

    @pytest.mark.parametrize("headers", [CHUNKED, {"content-length": "5000"}])
    @pytest.mark.parametrize(("reads", "status"), [(True, 413), (False, 406)])
    def test_the_rest_is_read_so_that_the_client_can_read_the_answer(
        self, headers: dict[str, str], reads: bool, status: int
    ) -> None:
        sender = Sender([bytes(100)] * 50)
        assert read_limited(sender, headers, reads=reads)[0] == status
        assert sender.taken == 5000

    def test_an_endless_body_is_not_read_for_ever(self) -> None:
        piece = bytes(8 * 2**20)
        sender = Sender([piece] * 50)
        assert read_limited(sender, CHUNKED)[0] == 413
        assert sender.taken <= DRAIN_BYTES + 2 * len(piece)

    def test_a_client_that_stops_sending_is_not_waited_for_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.middleware.DRAIN_S", 0.05)
        sender = Sender([b"abc"], stalls=True)
        assert read_limited(sender, {"content-length": "11"})[0] == 413

    def test_a_client_that_hangs_up_is_not_waited_for(self) -> None:
        sender = Sender([b"abc"])
        assert read_limited(sender, {"content-length": "11"}, reads=False)[0] == 406

    @pytest.mark.parametrize(("reads", "status"), [(True, 413), (False, 406)])
    def test_a_client_that_waits_for_permission_is_refused_unread(
        self, reads: bool, status: int
    ) -> None:
        sender = Sender([b"x" * 50])
        headers = {"content-length": "50", "expect": "100-continue"}
        assert read_limited(sender, headers, reads=reads)[0] == status
        assert sender.taken == 0

    def test_a_client_that_waits_with_a_good_length_is_read(self) -> None:
        headers = {"content-length": "5", "expect": "100-Continue"}
        assert read_limited(Sender([b"x" * 5]), headers) == (200, b"xxxxx")

    def test_single_images_and_batches_have_limits_of_their_own(self, client: Client) -> None:
        body = GOOD + bytes(200_000)
        assert_problem(client.post("/segment", content=body), 413)
        response = client.post("/segment/batch", files=[("file", ("a", body))])
        assert response.status_code == 200
        assert response.json()["results"][0]["status"] == 413
        body += bytes(100_000)
        assert_problem(client.post("/segment/batch", files=[("file", ("a", body))]), 413, "300000")
