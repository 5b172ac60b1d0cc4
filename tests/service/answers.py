"""What is read of an answer."""

import base64
from typing import Any

import httpx


def classes_of(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [entry["name"] for entry in response.json()["classes"]]


def mask_of(answer: dict[str, Any]) -> bytes:
    assert answer["mask"]["media_type"] == "image/png"
    return base64.b64decode(answer["mask"]["data"], validate=True)
