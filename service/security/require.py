"""What a route asks for: `dependencies=[Depends(require_scope("admin"))]`."""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.errors import ServiceError, UnauthorizedError
from service.security.access import Access
from service.security.keys import Scope
from service.security.limiter import client_of

logger = logging.getLogger(__name__)

HEADER_NAME = "X-API-Key"
BEARER = HTTPBearer(scheme_name="Bearer", description="an API key", auto_error=False)
HEADER = APIKeyHeader(
    name=HEADER_NAME, scheme_name="X-API-Key", description="the same API key", auto_error=False
)


def require_scope(scope: Scope) -> Callable[..., Awaitable[None]]:
    """A dependency that lets a request through or raises 401, 403 or 429, before anything of its
    body is read. `request.state.key_name` is the name of its key, for logs; None without one."""
    # OpenAPI 3.1 has the roles that a requirement asks for; the scope is one
    bearer_scheme, header_scheme = (Security(each, scopes=[scope]) for each in (BEARER, HEADER))

    async def check(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, bearer_scheme],
        header: Annotated[str | None, header_scheme],
    ) -> None:
        access: Access = request.app.state.access
        host = request.client.host if request.client else None
        try:
            if (bearer and header) or any(
                len(request.headers.getlist(each)) > 1 for each in ("authorization", HEADER_NAME)
            ):
                raise UnauthorizedError("several API keys were sent; send one", is_wrong=True)
            name = access.admit(scope, bearer.credentials if bearer else header, host)
        except ServiceError as error:
            _log(request, error, host)
            raise
        request.state.key_name = name

    return check


def _log(request: Request, error: ServiceError, host: str | None) -> None:
    logger.warning(
        "%s %r from %s refused: %s, request %s",
        request.method,
        request.url.path,  # as it is quoted, nothing in it makes a line of its own
        client_of(host),
        error.detail,
        getattr(request.state, "request_id", None),
    )
