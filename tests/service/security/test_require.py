"""Which routes are open and which ask for a key, and how they refuse."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request

from service.app import create_app
from service.security import guarded_route
from service.security.keys import new_key
from tests.service.clients import GOOD, Client, assert_problem, client_for, settings_for
from tests.service.running import Running, running

SEGMENT, SEGMENT_KEY = new_key("robot", frozenset({"segment"}))
ADMIN, ADMIN_KEY = new_key("boss", frozenset({"admin"}))
METRICS, METRICS_KEY = new_key("prometheus", frozenset({"metrics"}))
KEYS = f"{SEGMENT_KEY.line()}\n{ADMIN_KEY.line()}\n{METRICS_KEY.line()}\n"

OPEN = {"/", "/healthz", "/readyz", "/docs", "/openapi.json", "/web/page.js"}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def with_admin_route(app: FastAPI) -> FastAPI:
    router = APIRouter(route_class=guarded_route("admin"))

    @router.post("/admin-only")
    async def admin_only(request: Request) -> str | None:
        name: str | None = request.state.key_name
        return name

    app.include_router(router)
    return app


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text(KEYS)
    return path


@pytest.fixture(scope="module")
def guarded(served_folder: Path) -> Iterator[Client]:
    app = create_app(settings_for(served_folder, api_keys=KEYS))
    with client_for(with_admin_route(app)) as client:
        yield client


class TestGuarded:
    @pytest.mark.parametrize("path", sorted(OPEN))
    def test_the_page_health_and_documentation_are_open(self, guarded: Client, path: str) -> None:
        assert guarded.get(path).status_code == 200

    def test_every_other_route_asks_for_a_key(self, guarded: Client) -> None:
        """A route that is forgotten here is a hole."""
        document = guarded.get("/openapi.json").json()
        asked = [
            (method.upper(), path)
            for path, methods in document["paths"].items()
            for method in methods
            if path not in OPEN
        ]
        assert ("POST", "/segment") in asked
        assert ("GET", "/models") in asked
        for method, path in asked:
            response = guarded.request(method, path.replace("{name}", "colours"))
            assert_problem(response, 401, "Authorization: Bearer KEY", "X-API-Key")
            assert response.headers["www-authenticate"] == 'Bearer realm="maskwright"'

    def test_a_key_for_prometheus_opens_nothing_else(self, guarded: Client) -> None:
        assert guarded.get("/metrics").status_code == 401
        assert guarded.get("/metrics", headers=bearer(METRICS)).status_code == 200
        for method, path in (("GET", "/models"), ("POST", "/segment"), ("POST", "/admin-only")):
            refused = guarded.request(method, path, headers=bearer(METRICS))
            assert_problem(refused, 403, "'prometheus' lacks the scope")

    @pytest.mark.parametrize("path", ["/models/", "/segment/", "/models/colours/load/", "/docs/"])
    def test_nobody_is_led_to_another_host(self, guarded: Client, path: str) -> None:
        response = guarded.get(path, headers={"Host": "evil.example"})
        assert_problem(response, 404)
        assert "location" not in response.headers

    @pytest.mark.parametrize("secret", [SEGMENT, ADMIN])
    @pytest.mark.parametrize("scheme", ["Bearer {}", "bearer {}", "Bearer   {} ", None])
    def test_a_key_lets_in_by_either_header(
        self, guarded: Client, secret: str, scheme: str | None
    ) -> None:
        headers = {"Authorization": scheme.format(secret)} if scheme else {"X-API-Key": secret}
        response = guarded.post("/segment", content=GOOD, headers=headers)
        assert response.status_code == 200, response.text
        assert guarded.get("/models", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            bearer("wrong"),
            bearer(SEGMENT[:-1]),
            bearer(SEGMENT_KEY.digest.hex()),
            bearer("x" * 10_000),
            {"X-API-Key": "wrong"},
        ],
    )
    def test_a_wrong_key_is_refused_as_wrong(
        self, guarded: Client, headers: dict[str, str]
    ) -> None:
        response = guarded.post("/segment", content=GOOD, headers=headers)
        problem = assert_problem(response, 401, "unknown or was revoked")
        assert 'error="invalid_token"' in response.headers["www-authenticate"]
        assert SEGMENT not in str(problem)

    @pytest.mark.parametrize("name", ["X-API-Key", "Authorization"])
    def test_of_two_keys_none_counts(self, guarded: Client, name: str) -> None:
        """Else whoever adds a header before a proxy adds its own would choose."""
        prefix = "Bearer " if name == "Authorization" else ""
        headers = [(name, prefix + secret) for secret in (SEGMENT, "wrong")]
        for order in (headers, headers[::-1]):
            assert_problem(guarded.get("/models", headers=order), 401, "several")

    @pytest.mark.parametrize(
        "secrets", [(SEGMENT, "wrong"), ("wrong", SEGMENT), (SEGMENT, SEGMENT)]
    )
    def test_nor_of_two_in_different_headers(
        self, guarded: Client, secrets: tuple[str, str]
    ) -> None:
        headers = {**bearer(secrets[0]), "X-API-Key": secrets[1]}
        assert_problem(guarded.get("/models", headers=headers), 401, "several")

    def test_a_proxys_own_credentials_are_no_key(self, guarded: Client) -> None:
        headers = {"Authorization": "Basic cHJveHk6cHJveHk=", "X-API-Key": SEGMENT}
        assert guarded.get("/models", headers=headers).status_code == 200

    @pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", f"Basic {SEGMENT}", SEGMENT])
    def test_what_is_no_bearer_is_no_key(self, guarded: Client, value: str) -> None:
        assert_problem(guarded.get("/models", headers={"Authorization": value}), 401)

    @pytest.mark.parametrize("path", ["/segment?output=gif", "/segment?model=nobody"])
    def test_nothing_is_said_of_a_request_before_its_key_is_known(
        self, guarded: Client, path: str
    ) -> None:
        assert_problem(guarded.post(path, content=b"no image"), 401)

    def test_the_scope_counts(self, guarded: Client) -> None:
        refused = guarded.post("/admin-only", headers=bearer(SEGMENT))
        assert_problem(refused, 403, "'robot' lacks the scope admin")
        assert guarded.post("/admin-only", headers=bearer(ADMIN)).json() == "boss"

    def test_the_log_says_who_was_refused_and_never_the_key(
        self, guarded: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            guarded.post("/admin-only", headers=bearer(SEGMENT))
            guarded.get("/models/a%0Ab", headers=bearer("not-a-key"))
        assert "robot" in caplog.text
        assert SEGMENT not in caplog.text
        assert "not-a-key" not in caplog.text
        assert "a\nb" not in caplog.text

    def test_docs_offers_both_headers(self, guarded: Client) -> None:
        document = guarded.get("/openapi.json").json()
        assert set(document["components"]["securitySchemes"]) == {"Bearer", "X-API-Key"}
        operations = document["paths"]
        assert operations["/segment"]["post"]["security"] == [
            {"Bearer": ["segment"]},
            {"X-API-Key": ["segment"]},
        ]
        assert "security" not in operations["/healthz"]["get"]
        assert {"401", "403", "429"} <= set(operations["/segment"]["post"]["responses"])


class TestRevoking:
    def test_a_key_that_is_taken_out_of_the_file_is_refused_at_once(
        self, folder: Path, key_file: Path
    ) -> None:
        with client_for(create_app(settings_for(folder, api_key_file=key_file))) as client:
            assert client.get("/models", headers=bearer(SEGMENT)).status_code == 200
            key_file.write_text(f"{ADMIN_KEY.line()}\n")
            assert_problem(client.get("/models", headers=bearer(SEGMENT)), 401)
            assert client.get("/models", headers=bearer(ADMIN)).status_code == 200

    def test_a_scrape_tells_that_the_file_is_not_in_order(
        self, folder: Path, key_file: Path
    ) -> None:
        with client_for(create_app(settings_for(folder, api_key_file=key_file))) as client:
            headers = bearer(ADMIN)
            assert "maskwright_api_key_file_ok 1.0" in client.get("/metrics", headers=headers).text
            key_file.write_text(f"{ADMIN_KEY.line()}\nnonsense\n")
            assert "maskwright_api_key_file_ok 0.0" in client.get("/metrics", headers=headers).text


class TestUnguarded:
    def test_admin_routes_are_closed_though_all_else_is_open(self, folder: Path) -> None:
        with client_for(with_admin_route(create_app(settings_for(folder)))) as client:
            assert client.get("/models").status_code == 200
            for headers in ({}, bearer(ADMIN)):
                refused = client.post("/admin-only", headers=headers)
                assert_problem(refused, 403, "keys new --scope admin")

    def test_only_what_needs_a_key_is_described_so(self, folder: Path) -> None:
        with client_for(with_admin_route(create_app(settings_for(folder)))) as client:
            paths = client.get("/openapi.json").json()["paths"]
        assert "security" not in paths["/segment"]["post"]
        assert paths["/admin-only"]["post"]["security"][0] == {"Bearer": ["admin"]}


class TestRate:
    def limited(self, folder: Path, **settings: Any) -> AbstractContextManager[Client]:
        """One request a minute."""
        return client_for(create_app(settings_for(folder, requests_per_minute=1, **settings)))

    def test_each_key_has_its_own(self, folder: Path) -> None:
        with self.limited(folder, api_keys=KEYS) as client:
            assert client.get("/models", headers=bearer(SEGMENT)).status_code == 200
            response = client.get("/models", headers=bearer(SEGMENT))
            assert_problem(response, 429, "too many requests")
            assert 1 <= int(response.headers["retry-after"]) <= 60
            assert client.get("/models", headers=bearer(ADMIN)).status_code == 200
            assert client.get("/healthz").status_code == 200

    def test_without_keys_each_address_has_its_own(self, folder: Path) -> None:
        with self.limited(folder) as client:
            statuses = [client.get("/models").status_code for _ in range(2)]
        assert statuses == [200, 429]

    def test_wrong_keys_are_counted_and_keep_nobody_out(self, folder: Path) -> None:
        with self.limited(folder, api_keys=KEYS) as client:
            wrong = [client.get("/models", headers=bearer("wrong")) for _ in range(2)]
            assert [response.status_code for response in wrong] == [401, 429]
            assert client.get("/models", headers=bearer(SEGMENT)).status_code == 200


class TestBehindAProxy:
    JUNK = "x" * 50_000

    def asked(self, found: Running, forwarded: str) -> int:
        headers = {"X-Forwarded-For": forwarded}
        return httpx.get(f"{found.url}/models", headers=headers, timeout=30).status_code

    def test_nobody_is_who_he_says_unless_a_proxy_is_named(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
        with running(folder, requests_per_minute=1) as found:
            assert [self.asked(found, f"192.0.2.{n}") for n in range(2)] == [200, 429]

    def test_a_proxys_clients_are_told_apart_and_junk_is_one(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
        with running(folder, requests_per_minute=1) as found:
            assert [self.asked(found, f"192.0.2.{n}") for n in range(2)] == [200, 200]
            assert [self.asked(found, f"{n}{self.JUNK}") for n in range(2)] == [200, 429]
        assert self.JUNK not in caplog.text
