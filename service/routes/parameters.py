"""What a request asks for beside its images, in its query and its headers.

Read here rather than by FastAPI, whose way from an endpoint's signature to its arguments takes a
third of all that the event loop does for a request.
"""

from typing import Annotated, Any, Self

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from service.negotiation import Output

PATIENCE = "X-Request-Timeout"
HEADERS = (PATIENCE,)  # what is no header is in the query


Model = Annotated[str | None, Field(description="a loaded model; the active one when absent")]
Patience = Annotated[
    float | None,
    Field(
        alias=PATIENCE,
        gt=0,
        allow_inf_nan=False,
        description="seconds that the client waits once it has sent the upload; 504 after that, "
        "or after --request-timeout-s if that is less",
    ),
]


class _Parameters(BaseModel):
    """All of them may be absent."""

    @classmethod
    def of(cls, request: Request) -> Self:
        """RequestValidationError names what cannot be, as FastAPI's own does."""
        names = [field.alias or name for name, field in cls.model_fields.items()]
        sent = {name: _sent(request, name) for name in names}
        try:
            return cls.model_validate(
                {name: each for name, each in sent.items() if each is not None}
            )
        except ValidationError as error:
            raise RequestValidationError(
                [
                    {**each, "loc": (_place(str(each["loc"][0])), *each["loc"])}
                    for each in error.errors(include_url=False)
                ]
            ) from error

    @classmethod
    def document(cls) -> dict[str, Any]:
        """For an endpoint's `openapi_extra`."""
        schemas = cls.model_json_schema()["properties"]
        return {"parameters": [_documented(name, schema) for name, schema in schemas.items()]}


class SegmentParameters(_Parameters):
    """Of POST /segment."""

    model: Model = None
    output: Annotated[Output | None, Field(description="overrides Accept")] = None
    patience_s: Patience = None


class BatchParameters(_Parameters):
    """Of POST /segment/batch."""

    model: Model = None
    patience_s: Patience = None


def _sent(request: Request, name: str) -> str | None:
    place = request.headers if name in HEADERS else request.query_params
    return place.get(name)


def _place(name: str) -> str:
    return "header" if name in HEADERS else "query"


def _documented(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    schema = {key: value for key, value in schema.items() if key != "default"}  # which is null
    return {
        "name": name,
        "in": _place(name),
        "required": False,
        "description": schema["description"],
        "schema": schema,
    }
