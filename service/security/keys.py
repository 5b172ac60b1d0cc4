"""An API key: what its holder sends, and the line that the service keeps of it.

A line is `NAME:SCOPES:SHA256`, with several scopes parted by commas. It holds no secret: a key is
256 random bits, so there is no list of likely ones to try against its hash, and a slow hash, which
passwords need, would only make every request pay for what nobody can use.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from service.errors import KeysError

Scope = Literal["segment", "admin", "metrics"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "mw_"  # by which scanners for leaked secrets, and people, know one
IMPLIED: dict[Scope, frozenset[Scope]] = {  # what each scope allows beside itself
    "admin": frozenset({"segment", "metrics"}),
    "segment": frozenset({"metrics"}),
    "metrics": frozenset(),
}
RANDOM_BYTES = 32
MAX_KEYS = 1000  # each is compared on every request

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key; `digest` is the sha256 of what its holder sends."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes

    def allows(self, scope: Scope) -> bool:
        return any(scope == each or scope in IMPLIED[each] for each in self.scopes)

    def line(self) -> str:
        scopes = ",".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.digest.hex()}"


def new_key(name: str, scopes: frozenset[Scope]) -> tuple[str, ApiKey]:
    """The secret for its holder, which is kept nowhere, and the key it is known by."""
    if not NAME.fullmatch(name):
        raise KeysError(f"--name {name!r}: a name is {NAME.pattern}")
    secret = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    return secret, ApiKey(name, scopes, digest_of(secret))


def digest_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True)
class BrokenLine:
    """A line that gives no key: its text, and the KeysError that says why."""

    text: str
    error: KeysError


def parse_lines(
    text: str, *, source: str, beside: Sequence[ApiKey] = ()
) -> tuple[list[ApiKey], list[BrokenLine]]:
    """One key a line; blank lines and those that begin with # are left out.

    Two keys of one name could not be told apart in the log; of one secret's two lines, revoking
    either would leave the other. So the first counts, `beside` before any, and the second is
    broken. An error names the source, the line and the field, and never repeats what stands there:
    it may be a key that was put in by mistake.
    """
    names, digests = {key.name for key in beside}, {key.digest for key in beside}
    keys: list[ApiKey] = []
    broken: list[BrokenLine] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line, where = line.strip(), f"{source}: line {number}"
        if not line or line.startswith("#"):
            continue
        try:
            key = _parse_line(line, where=where)
            if key.name in names:
                raise KeysError(f"{where}: the name {key.name!r} stands there twice")
            if key.digest in digests:
                raise KeysError(f"{where}: the hash of {key.name!r} stands there twice")
            if len(keys) == MAX_KEYS:
                raise KeysError(f"{where}: at most {MAX_KEYS} keys are taken")
        except KeysError as error:
            broken.append(BrokenLine(line, error))
            continue
        keys.append(key)
        names.add(key.name)
        digests.add(key.digest)
    return keys, broken


def parse_keys(text: str, *, source: str, beside: Sequence[ApiKey] = ()) -> list[ApiKey]:
    """As `parse_lines`, for whoever takes all or nothing: the first broken line's KeysError."""
    keys, broken = parse_lines(text, source=source, beside=beside)
    if broken:
        raise broken[0].error
    return keys


def _parse_line(line: str, *, where: str) -> ApiKey:
    fields = line.split(":")
    if len(fields) != 3:
        raise KeysError(
            f"{where}: is not NAME:SCOPES:SHA256 (`python -m service keys new` writes it)"
        )
    name, scopes, digest = fields
    if not NAME.fullmatch(name):
        raise KeysError(f"{where}: the name is not {NAME.pattern}")
    given = frozenset(scope for scope in SCOPES if scope in scopes.split(","))
    if len(given) != len(scopes.split(",")):
        raise KeysError(f"{where}: the scopes are not some of {', '.join(SCOPES)}")
    if not SHA256.fullmatch(digest):
        raise KeysError(f"{where}: the hash is not 64 hexadecimal digits in lower case")
    return ApiKey(name, given, bytes.fromhex(digest))
