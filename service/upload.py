"""From a request to pixels: which bytes are the image, and whether they may be decoded."""

from dataclasses import dataclass

import torch
from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from torch import Tensor

from models.errors import PixelsError
from models.jpeg import decoded_jpeg
from models.pixels import open_image, rgb_pixels, upright_size
from models.plain_jpeg import plain_jpeg_size
from service.errors import (
    BadImageError,
    BadRequestError,
    InvalidRequestError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from service.structure import require_bounded

FIELD = "file"
MAX_SIDE = 1_000_000  # pixels: what follows a side, and not the area, is bounded by it
MAX_PARTS = 2000  # above any --max-batch-files, whose own refusal says more than the parser's
# curl --data-binary announces a form; such a body is taken for the image it is
RAW_TYPES = ("application/octet-stream", "application/x-www-form-urlencoded", "binary/octet-stream")


@dataclass(frozen=True)
class Upload:
    """An image as it was sent; `name` is the client's own, for its eyes only."""

    name: str | None
    content: bytes


async def read_upload(request: Request, *, max_bytes: int) -> Upload:
    """The one image of a request: the multipart field `file`, or the raw body."""
    if not _is_multipart(request):
        upload = Upload(None, await _raw_body(request))
    else:
        uploads = await _form_files(request)
        if len(uploads) > 1:
            raise InvalidRequestError(
                f"the field {FIELD!r} was sent {len(uploads)} times; POST several images to "
                "/segment/batch"
            )
        upload = uploads[0]
    require_size(upload, max_bytes)
    return upload


async def read_uploads(request: Request, *, max_files: int) -> list[Upload]:
    """Every `file` field of a multipart request, in order; sizes are the caller's to check."""
    if not _is_multipart(request):
        raise UnsupportedMediaTypeError(
            f"/segment/batch takes multipart/form-data with one or more fields {FIELD!r}"
        )
    uploads = await _form_files(request)
    if len(uploads) > max_files:
        raise TooLargeError(f"more than the limit of {max_files} images in one request")
    return uploads


def require_size(upload: Upload, max_bytes: int) -> None:
    if not upload.content:
        raise BadImageError("the image is empty (0 bytes)")
    if len(upload.content) > max_bytes:
        raise TooLargeError(f"the image has {len(upload.content)} bytes, the limit is {max_bytes}")


@dataclass(frozen=True)
class Header:
    """An image's size, upright; `is_plain` is what `read_plain_jpeg` finds."""

    height: int
    width: int
    is_plain: bool = False

    @property
    def pixels(self) -> int:
        return self.height * self.width


def read_header(upload: Upload, *, max_pixels: int) -> Header:
    """TooLargeError when there are more than `max_pixels`, or MAX_SIDE along a side, or when the
    file asks for more work than its size explains."""
    plain = read_plain_jpeg(upload, max_pixels=max_pixels)
    if plain is not None:
        return plain
    require_bounded(upload.content)
    try:
        with open_image(upload.content) as image:
            header = Header(*upright_size(image))
    except PixelsError as error:
        raise BadImageError(str(error)) from error
    _require_allowed(header, max_pixels)
    return header


def read_plain_jpeg(upload: Upload, *, max_pixels: int) -> Header | None:
    """Of a JPEG that any decoder may be given, None of all others; soon enough for the event loop.
    TooLargeError as `read_header`."""
    size = plain_jpeg_size(upload.content)
    if size is None:
        return None
    header = Header(*size, is_plain=True)
    _require_allowed(header, max_pixels)
    return header


def _require_allowed(header: Header, max_pixels: int) -> None:
    size = f"the image has {header.width}x{header.height}"
    if header.pixels > max_pixels:
        raise TooLargeError(f"{size} = {header.pixels} pixels, the limit is {max_pixels}")
    if max(header.height, header.width) > MAX_SIDE:
        raise TooLargeError(f"{size} pixels, the limit of a side is {MAX_SIDE}")


def decode(upload: Upload, header: Header) -> Tensor:
    """uint8 (3, H, W), upright, of what `read_header` let through. Of damaged JPEGs Pillow decides
    what becomes."""
    if header.is_plain:
        pixels = decoded_jpeg(upload.content, header.height, header.width)
        if pixels is not None:
            return torch.from_numpy(pixels).permute(2, 0, 1)
    try:
        with open_image(upload.content) as image:
            return rgb_pixels(image, by_pillow=header.is_plain)
    except PixelsError as error:
        raise BadImageError(str(error)) from error


def _is_multipart(request: Request) -> bool:
    return _content_type(request) == "multipart/form-data"


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _raw_body(request: Request) -> bytes:
    media_type = _content_type(request)
    if media_type and not media_type.startswith("image/") and media_type not in RAW_TYPES:
        raise UnsupportedMediaTypeError(
            f"Content-Type {media_type!r} cannot hold an image; send multipart/form-data with a "
            f"field {FIELD!r}, or the image itself as image/* or application/octet-stream"
        )
    return await request.body()


class _FormParser(MultiPartParser):
    """Keeps files in memory, which is bounded for all uploads, rather than on a disk, which may be
    full or read-only."""

    spool_max_size = 0  # no size at which a file goes to the disk


async def _form_files(request: Request) -> list[Upload]:
    parser = _FormParser(request.headers, request.stream(), max_files=MAX_PARTS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadRequestError(f"the form cannot be read: {error.message}") from error
    except (UnicodeError, LookupError) as error:
        raise BadRequestError(f"the form cannot be decoded: {error}") from error
    try:
        return await _files_of(form)
    finally:
        await form.close()


async def _files_of(form: FormData) -> list[Upload]:
    fields = form.getlist(FIELD)
    if not fields:
        present = ", ".join(repr(name) for name in sorted(set(form))[:10]) or "no field"
        raise InvalidRequestError(f"the field {FIELD!r} is missing; the form has {present}")
    uploads = []
    for field in fields:
        if not isinstance(field, UploadFile):
            raise InvalidRequestError(f"the field {FIELD!r} is text, not a file")
        uploads.append(Upload(field.filename, await field.read()))
    return uploads
