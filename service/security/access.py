"""What an app decides of each request: whose it is, whether it may, and whether it may now."""

import math

from service.errors import ForbiddenError, StartupError, TooManyRequestsError, UnauthorizedError
from service.security.exposure import is_loopback
from service.security.keyring import KeyRing
from service.security.keys import Scope
from service.security.limiter import RateLimiter, client_of
from service.settings import Settings

HOW = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"


class Access:
    """StartupError where the service would be open to other machines and nobody has said so."""

    def __init__(self, settings: Settings) -> None:
        self.keys = KeyRing(settings.api_keys, settings.api_key_file)
        limit = settings.requests_per_minute
        self._limiter = RateLimiter(limit) if limit else None
        self._require_guarded(settings)

    @property
    def guards(self) -> bool:
        """Whether requests need a key; admin routes do in any case."""
        return self.keys.guards

    def admit(self, scope: Scope, secret: str | None, host: str | None) -> str | None:
        """The name of the key that lets this request in, None where none is needed.

        `secret` is what was sent as a key, `host` the client's address. UnauthorizedError,
        ForbiddenError or TooManyRequestsError say why it may not come in.
        """
        if not self.guards:
            if scope == "admin":
                raise ForbiddenError(
                    "this needs an API key of the scope admin, and the service was started without "
                    "keys; `python -m service keys new --scope admin` makes one"
                )
            self._count(client_of(host))
            return None
        if not secret:
            raise UnauthorizedError(f"an API key is needed; {HOW}")
        key = self.keys.find(secret)
        if key is None:
            self._count(f"{client_of(host)} with wrong keys")  # apart from those who have one
            raise UnauthorizedError("the API key is unknown or was revoked", is_wrong=True)
        self._count(f"key {key.name}")
        if not key.allows(scope):
            raise ForbiddenError(f"the API key {key.name!r} lacks the scope {scope}")
        return key.name

    def _count(self, client: str) -> None:
        wait_s = self._limiter.take(client) if self._limiter is not None else 0.0
        if wait_s:
            raise TooManyRequestsError("too many requests in a minute", math.ceil(wait_s))

    def _require_guarded(self, settings: Settings) -> None:
        if self.guards or settings.insecure or is_loopback(settings.host):
            return
        raise StartupError(
            f"--host {settings.host}: other machines could use the service without a key; make one "
            "(python -m service keys new --name NAME --file keys.txt) and name it with "
            "--api-key-file keys.txt, or say --insecure"
        )
