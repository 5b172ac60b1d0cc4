"""What a request can be refused for, and what stops the start.

ServiceError                  carries its HTTP status and title
├── BadImageError             400  not an image, or a broken one
├── BadRequestError           400  a body that is not what its Content-Type says
├── UnknownModelError         404  no such checkpoint, or it is not loaded
├── NotAcceptableError        406  none of the media types the client accepts
├── ConflictError             409  the model is the active one, or no more may be loaded
├── TooLargeError             413  more bytes, pixels or files than the limits
├── UnsupportedMediaTypeError 415  a body that cannot hold an image
├── InvalidRequestError       422  a field is missing, empty or repeated
├── UnservableModelError      422  a checkpoint that cannot be loaded
├── EngineFailedError         500  the network failed on this image
└── OverloadedError           503  the queue is full, or the service is stopping
StartupError                  the configuration cannot serve; ends the process
"""

from typing import ClassVar


class ServiceError(Exception):
    """Base of every refusal; `detail` is one sentence for the person who sent the request,
    `reason` one of few words for those who count refusals, from the title where none is given."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str, *, reason: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or reason_of(self.title)


class BadImageError(ServiceError):
    status = 400
    title = "Not an image"


class BadRequestError(ServiceError):
    status = 400
    title = "Malformed request"


class UnknownModelError(ServiceError):
    status = 404
    title = "Unknown model"


class NotAcceptableError(ServiceError):
    status = 406
    title = "Not acceptable"


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


class EngineFailedError(ServiceError):
    status = 500
    title = "Segmentation failed"


class OverloadedError(ServiceError):
    status = 503
    title = "Overloaded"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


def reason_of(title: str) -> str:
    """As a label's value: too_large."""
    return title.lower().replace(" ", "_")


class StartupError(Exception):
    """The service cannot start as configured; the message names the option and the reason."""
