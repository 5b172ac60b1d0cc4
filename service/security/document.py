"""What /docs says of keys: that they are needed where they are, and nothing where not."""

from typing import Any

from fastapi import FastAPI


def document_keys(app: FastAPI, *, guards: bool) -> None:
    """Without keys only what needs the scope admin is described as guarded."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
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
    if not any("security" in operation for operation in operations):
        document.get("components", {}).pop("securitySchemes", None)
