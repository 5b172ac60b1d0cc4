"""What /docs says of keys: that they are needed where they are, and nothing where not."""

from copy import deepcopy
from typing import Any

from fastapi import FastAPI

from service.security.keys import Scope

API_KEY_HEADER = "X-API-Key"
SCHEMES = {
    "Bearer": {"type": "http", "description": "an API key", "scheme": "bearer"},
    API_KEY_HEADER: {
        "type": "apiKey",
        "description": "the same API key",
        "in": "header",
        "name": API_KEY_HEADER,
    },
}


def requirements(scope: Scope) -> list[dict[str, list[str]]]:
    """Either of the schemes. OpenAPI 3.1 has the roles that a requirement asks for; the scope is
    one."""
    return [{scheme: [scope]} for scheme in SCHEMES]


def document_keys(app: FastAPI, *, guards: bool) -> None:
    """Without keys only what needs the scope admin is described as guarded."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        document.setdefault("components", {})["securitySchemes"] = deepcopy(SCHEMES)
        if not guards:
            _open(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _open(document: dict[str, Any]) -> None:
    operations = [each for path in document["paths"].values() for each in path.values()]
    for operation in operations:
        if not any(
            "admin" in scopes for need in operation.get("security", ()) for scopes in need.values()
        ):
            operation.pop("security", None)
