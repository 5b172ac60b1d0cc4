"""Every refusal has one form, whoever raised it, and tells nothing about the host."""

import logging
from pathlib import Path

import pytest

from service import errors
from service.app import create_app
from service.catalog import Catalog
from service.errors import ServiceError
from tests.service.clients import (
    Client,
    assert_problem,
    assert_still_serves,
    client_for,
    settings_for,
)

SECRET = "/srv/secret/weights.pth exploded"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_a_problem_that_names_it(client: Client, method: str) -> None:
    problem = assert_problem(client.request(method, "/nowhere/at/all"), 404, "/nowhere/at/all")
    assert problem["title"] == "Not Found"
    assert "/docs" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/segment", "POST"), ("PUT", "/segment/batch", "POST"), ("POST", "/models", "GET")],
)
def test_a_wrong_method_is_a_problem_that_names_the_right_one(
    client: Client, method: str, path: str, allowed: str
) -> None:
    response = client.request(method, path)
    assert_problem(response, 405, method, path)
    assert allowed in response.headers["allow"]


def test_a_validation_error_lists_the_fields(client: Client) -> None:
    problem = assert_problem(client.post("/segment?output=gif"), 422, "output", "json", "png")
    assert [entry["field"] for entry in problem["errors"]] == ["query.output"]


def test_an_unexpected_error_tells_the_log_and_not_the_client(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def entries(catalog: Catalog, *_: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Catalog, "entries", entries)
    with client_for(create_app(settings_for(folder))) as client:
        caplog.set_level(logging.ERROR)
        response = client.get("/models")
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert "secret" not in response.text
        assert SECRET in caplog.text
        assert_still_serves(client)


def test_an_unexpected_error_carries_the_headers_of_every_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries(catalog: Catalog, *_: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Catalog, "entries", entries)
    settings = settings_for(folder, cors_origin=["https://a.example"])
    with client_for(create_app(settings)) as client:
        headers = {"X-Request-ID": "mine", "Origin": "https://a.example"}
        response = client.get("/models", headers=headers)
    assert response.status_code == 500
    assert response.json()["request_id"] == "mine"
    assert response.headers["x-request-id"] == "mine"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    assert "default-src 'none'" in response.headers["content-security-policy"]


def all_errors() -> list[type[ServiceError]]:
    return [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, ServiceError) and each is not ServiceError
    ]


@pytest.mark.parametrize("error", all_errors())
def test_every_error_of_the_tree_has_a_status_and_a_title(error: type[ServiceError]) -> None:
    assert 400 <= error.status < 600
    assert error.title != ServiceError.title
    line = next(line for line in (errors.__doc__ or "").splitlines() if error.__name__ in line)
    assert str(error.status) in line.split()


@pytest.mark.parametrize("error", all_errors())
def test_every_error_leaves_as_a_problem(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[ServiceError]
) -> None:
    def entries(catalog: Catalog, *_: object) -> None:
        raise error("what was wrong with 'value'")

    monkeypatch.setattr(Catalog, "entries", entries)
    with client_for(create_app(settings_for(folder)), raise_errors=True) as client:
        response = client.get("/models")
    problem = assert_problem(response, error.status, "what was wrong with 'value'")
    assert problem["title"] == error.title
    for name, value in error.headers.items():
        assert response.headers[name] == value
