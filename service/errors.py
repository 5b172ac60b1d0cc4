"""What a request can be refused for, and what stops the start.

ServiceError                  carries its HTTP status and title
├── BadImageError             400  not an image, or a broken one
├── BadRequestError           400  a body that is not what its Content-Type says
├── UnauthorizedError         401  no API key, or one that is unknown
├── ForbiddenError            403  the API key does not allow this, or there is none that could
├── UnknownModelError         404  no such checkpoint, or it is not loaded
├── NotAcceptableError        406  none of the media types the client accepts
├── UploadTooSlowError        408  a body that comes more slowly than the service waits
├── ConflictError             409  the model is the active one, or no more may be loaded
├── TooLargeError             413  more bytes, pixels or files than the limits
├── UnsupportedMediaTypeError 415  a body that cannot hold an image
├── InvalidRequestError       422  a field is missing, empty or repeated
├── UnservableModelError      422  a checkpoint that cannot be loaded
├── TooManyRequestsError      429  more requests in a minute than one client may send
├── EngineFailedError         500  the network failed on this image
├── OverloadedError           503  all places are taken, or the service is stopping
└── DeadlineError             504  no answer within the time that it is of use
StartupError                  the configuration cannot serve; ends the process
└── KeysError                 API keys that cannot be read; while serving, the last good ones stay
"""

from collections.abc import Mapping
from typing import ClassVar


class ServiceError(Exception):
    """Base of every refusal; `detail` is one sentence for the person who sent the request,
    `reason` one of few words for those who count refusals, from the title where none is given."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        detail: str,
        *,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`reason` is its label where rejections are counted; `headers` are added to those that
        every error of this kind is sent with."""
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or reason_of(self.title)
        self.own_headers = headers or {}


class BadImageError(ServiceError):
    status = 400
    title = "Not an image"


class BadRequestError(ServiceError):
    status = 400
    title = "Malformed request"


class UnauthorizedError(ServiceError):
    """RFC 6750: what was sent and is wrong is told apart from what was not sent."""

    status = 401
    title = "Unauthorized"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="maskwright"'}

    def __init__(self, detail: str, *, is_wrong: bool = False) -> None:
        challenge = self.headers["WWW-Authenticate"] + ', error="invalid_token"'
        super().__init__(detail, headers={"WWW-Authenticate": challenge} if is_wrong else None)


class ForbiddenError(ServiceError):
    status = 403
    title = "Forbidden"


class UnknownModelError(ServiceError):
    status = 404
    title = "Unknown model"


class NotAcceptableError(ServiceError):
    status = 406
    title = "Not acceptable"


class UploadTooSlowError(ServiceError):
    status = 408
    title = "Upload too slow"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}  # its rest is not waited for


class ConflictError(ServiceError):
    status = 409
    title = "Conflict"


class TooLargeError(ServiceError):
    status = 413
    title = "Too large"


class UnsupportedMediaTypeError(ServiceError):
    status = 415
    title = "Unsupported media type"


class InvalidRequestError(ServiceError):
    status = 422
    title = "Invalid request"


class UnservableModelError(ServiceError):
    status = 422
    title = "Model cannot be served"


class TooManyRequestsError(ServiceError):
    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, retry_after_s: int = 60) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})


class EngineFailedError(ServiceError):
    status = 500
    title = "Segmentation failed"


class OverloadedError(ServiceError):
    status = 503
    title = "Overloaded"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class DeadlineError(ServiceError):
    status = 504
    title = "Deadline exceeded"


def reason_of(title: str) -> str:
    """As a label's value: too_large."""
    return title.lower().replace(" ", "_")


class StartupError(Exception):
    """The service cannot start as configured; the message names the option and the reason."""


class KeysError(StartupError):
    """A list of API keys that cannot be used; the message names its source and the line."""
