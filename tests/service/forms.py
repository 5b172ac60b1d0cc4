"""Multipart bodies byte by byte, to be as wrong as a test needs."""

import httpx

from tests.service.clients import (
    Client,
)


def part(name: str, content: bytes, *, filename: str | None = "a.png") -> bytes:
    """One part of a multipart body with the boundary `edge`."""
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def post_form(client: Client, body: bytes, *, path: str = "/segment") -> httpx.Response:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    return client.post(path, content=body, headers=headers)
