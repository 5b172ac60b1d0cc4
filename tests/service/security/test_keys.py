"""Keys: made, kept as hashes, read from lines that may be wrong."""

import re

import pytest

from service.errors import KeysError
from service.security.keys import (
    MAX_KEYS,
    SCOPES,
    ApiKey,
    Scope,
    digest_of,
    new_key,
    parse_keys,
)

SECRET, KEY = new_key("robot", frozenset({"segment"}))
DIGEST = "0" * 64


def test_a_new_key_is_long_random_and_known_by_its_hash_alone() -> None:
    other, _ = new_key("robot", frozenset({"segment"}))
    assert other != SECRET
    assert re.fullmatch(r"mw_[A-Za-z0-9_-]{43}", SECRET)  # 256 bits
    assert KEY.digest == digest_of(SECRET)
    assert SECRET not in KEY.line()


@pytest.mark.parametrize("scopes", [{"segment"}, {"admin"}, {"segment", "admin"}])
def test_a_line_gives_the_key_it_was_made_of(scopes: set[str]) -> None:
    _, key = new_key("a.b-c_1", frozenset(scopes))  # type: ignore[arg-type]
    assert parse_keys(f"# mine\n\n {key.line()} \r\n", source="s") == [key]


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("admin", {"admin", "segment", "metrics"}),
        ("segment", {"segment", "metrics"}),
        ("metrics", {"metrics"}),
    ],
)
def test_a_scope_allows_what_is_less_and_no_more(scope: Scope, allowed: set[str]) -> None:
    key = ApiKey("user", frozenset({scope}), b"")
    assert {each for each in SCOPES if key.allows(each)} == allowed


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (SECRET, "NAME:SCOPES:SHA256"),
        (f"me:segment:{SECRET}", "hash"),
        (f"me:segment:{DIGEST[:-1]}", "hash"),
        (f"me:segment:{'A' * 64}", "lower case"),
        (f"me:segment:{DIGEST}:more", "NAME:SCOPES:SHA256"),
        (f":segment:{DIGEST}", "name"),
        (f"a b:segment:{DIGEST}", "name"),
        (f"{'x' * 65}:segment:{DIGEST}", "name"),
        (f"me::{DIGEST}", "segment, admin, metrics"),
        (f"me:segment,root:{DIGEST}", "segment, admin, metrics"),
        (f"me:segment,segment:{DIGEST}", "segment, admin, metrics"),
        (f"me:Admin:{DIGEST}", "segment, admin, metrics"),
    ],
)
def test_a_wrong_line_is_named_and_not_repeated(line: str, complaint: str) -> None:
    with pytest.raises(KeysError, match=r"^here: line 3: ") as caught:
        parse_keys(f"\n# a comment\n{line}", source="here")
    assert complaint in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_name_stands_there_once() -> None:
    with pytest.raises(KeysError, match="'robot' stands there twice"):
        parse_keys(f"{KEY.line()}\nrobot:admin:{DIGEST}", source="here")


def test_a_secret_stands_there_once() -> None:
    with pytest.raises(KeysError, match="line 2: the hash of 'twin' stands there twice"):
        parse_keys(f"{KEY.line()}\ntwin:admin:{KEY.digest.hex()}", source="here")


def test_there_is_a_limit_to_what_each_request_is_compared_with() -> None:
    lines = "\n".join(f"k{number}:segment:{number:064x}" for number in range(MAX_KEYS + 1))
    with pytest.raises(KeysError, match="at most 1000"):
        parse_keys(lines, source="here")


@pytest.mark.parametrize("name", ["", "a:b", "two words", "é", "-x"])
def test_a_name_that_no_line_could_hold_is_refused(name: str) -> None:
    with pytest.raises(KeysError, match="--name"):
        new_key(name, frozenset({"segment"}))
