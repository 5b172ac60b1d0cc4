"""A service that other machines can reach starts with a key, or because somebody said so."""

from typing import Any

import pytest

from service.errors import StartupError, TooManyRequestsError, UnauthorizedError
from service.security import Access
from service.security.keys import new_key
from service.settings import Settings

SECRET, KEY = new_key("robot", frozenset({"segment"}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
def test_without_a_key_another_address_than_loopback_is_refused(host: str) -> None:
    with pytest.raises(StartupError) as caught:
        Access(Settings.model_validate({"host": host}))
    message = str(caught.value)
    for word in (f"--host {host}", "keys new", "--api-key-file", "--insecure"):
        assert word in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "127.0.0.1"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "insecure": True},
        {"host": "0.0.0.0", "api_keys": KEY.line()},
    ],
)
def test_otherwise_it_starts(settings: dict[str, Any]) -> None:
    access = Access(Settings.model_validate(settings))
    assert access.guards is ("api_keys" in settings)


def test_insecure_does_not_lift_the_keys() -> None:
    access = Access(
        Settings.model_validate({"host": "0.0.0.0", "insecure": True, "api_keys": KEY.line()})
    )
    assert access.guards
    assert access.admit("segment", SECRET, "192.0.2.1") == "robot"


def test_who_guesses_at_keys_is_counted_by_address() -> None:
    access = Access(Settings.model_validate({"api_keys": KEY.line(), "requests_per_minute": 1}))
    for host, refusal in (
        ("192.0.2.1", UnauthorizedError),
        ("192.0.2.1", TooManyRequestsError),
        ("192.0.2.2", UnauthorizedError),
    ):
        with pytest.raises(refusal):
            access.admit("segment", "wrong", host)
