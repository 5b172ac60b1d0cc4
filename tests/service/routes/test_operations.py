"""GET /healthz, /readyz and the page."""

from tests.service.clients import Client


def test_a_started_service_is_alive_and_ready(client: Client) -> None:
    alive, ready = client.get("/healthz"), client.get("/readyz")
    assert (alive.status_code, alive.json()["status"]) == (200, "ok")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "model": "colours", "reason": None}


def test_the_page_is_html(client: Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.text.lower().startswith("<!doctype html>")


def test_the_page_answers_a_probe_without_a_body(client: Client) -> None:
    response = client.request("HEAD", "/")
    assert response.status_code == 200
    assert response.content == b""
