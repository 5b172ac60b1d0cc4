"""Which addresses other machines can reach."""

import socket
from typing import Any

import pytest

from service.security.exposure import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_is_reached_from_here_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "10.0.0.1", "no such name"])
def test_everything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(["127.0.1.1"], True), (["127.0.0.1", "192.0.2.7"], False), ([], False)],
)
def test_a_name_is_what_all_its_addresses_are(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], expected: bool
) -> None:
    def resolve(*asked: Any, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert is_loopback("box.example") is expected
