"""What is read of an answer."""

import base64
from typing import Any

import httpx

from tests.service.colours import THREE_MODELS


def classes_of(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [entry["name"] for entry in response.json()["classes"]]


def mask_of(answer: dict[str, Any]) -> bytes:
    assert answer["mask"]["media_type"] == "image/png"
    return base64.b64decode(answer["mask"]["data"], validate=True)


def assert_answered_by(response: httpx.Response, *models: str) -> None:
    """One of `models` answered an image that is red, and it alone."""
    name = response.headers["x-model"]
    assert name in models
    assert response.json()["model"] == name
    assert classes_of(response) == [THREE_MODELS[name]]
