"""What guards a router's endpoints: `APIRouter(route_class=guarded_route("admin"))`."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.errors import ServiceError, UnauthorizedError
from service.security.access import Access
from service.security.document import API_KEY_HEADER, requirements
from service.security.keys import Scope
from service.security.limiter import client_of

logger = logging.getLogger(__name__)


def guarded_route(scope: Scope) -> type[APIRoute]:
    """Routes that let a request through or raise 401, 403 or 429, before anything of it is
    understood. `request.state.key_name` is the name of its key, for logs; None without one."""

    class Guarded(APIRoute):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            extra = {**(options.pop("openapi_extra", None) or {}), "security": requirements(scope)}
            super().__init__(*arguments, **options, openapi_extra=extra)

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_admitted(request: Request) -> Response:
                _admit(request, scope)
                return await handle(request)

            return handle_admitted

    return Guarded


def _admit(request: Request, scope: Scope) -> None:
    access: Access = request.app.state.access
    host = request.client.host if request.client else None
    try:
        request.state.key_name = access.admit(scope, _sent_key(request), host)
    except ServiceError as error:
        _log(request, error, host)
        raise


def _sent_key(request: Request) -> str | None:
    """As `Authorization: Bearer KEY` or `X-API-Key: KEY`; UnauthorizedError where it is not one."""
    authorizations, keys = map(request.headers.getlist, ("authorization", API_KEY_HEADER))
    scheme, _, credentials = "".join(authorizations[:1]).partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else None
    header = "".join(keys[:1])
    if (bearer and header) or len(authorizations) > 1 or len(keys) > 1:
        raise UnauthorizedError("several API keys were sent; send one", is_wrong=True)
    return bearer or header or None


def _log(request: Request, error: ServiceError, host: str | None) -> None:
    logger.warning(
        "%s %r from %s refused: %s, request %s",
        request.method,
        request.url.path,  # as it is quoted, nothing in it makes a line of its own
        client_of(host),
        error.detail,
        getattr(request.state, "request_id", None),
    )
