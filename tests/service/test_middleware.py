"""Request ids, and headers for browsers."""

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.app import create_app
from service.middleware import RequestContext
from tests.service.clients import Client, assert_problem, client_for, settings_for

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
        "Access-Control-Request-Headers": "authorization,traceparent,x-api-key,x-request-timeout",
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
