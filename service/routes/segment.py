"""POST /segment and POST /segment/batch."""

import asyncio
import logging
from dataclasses import dataclass
from itertools import count
from math import inf
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from service.admission import busy_images
from service.deadline import Deadline, while_connected
from service.dependencies import State, require_working, state_of
from service.errors import ServiceError
from service.loaded import LoadedModel
from service.negotiation import choose_output
from service.routes.parameters import BatchParameters, SegmentParameters
from service.routes.responses import ERRORS, GUARDED, MODEL_HEADERS, PROBLEM, TIMING_HEADERS
from service.schemas import BatchItem, BatchResponse, Problem, SegmentResponse
from service.security import guarded_route
from service.segmenter import Segmented
from service.upload import Upload, read_upload, read_uploads, require_size

logger = logging.getLogger(__name__)

HEADER_SAFE = " !#$&'()*+,/:;=?@[]^`{|}~"  # other characters, which a header cannot hold: %XX

_FILE = {"type": "string", "format": "binary"}
ONE_IMAGE = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE}}
            },
            "application/octet-stream": {"schema": _FILE},
            "image/*": {"schema": _FILE},
        },
    }
}
SEVERAL_IMAGES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": _FILE, "minItems": 1}},
                }
            }
        },
    }
}


router = APIRouter(tags=["segmentation"], route_class=guarded_route("segment"), responses=GUARDED)


@router.post(
    "/segment",
    response_model=SegmentResponse,
    responses={
        200: {
            "content": {"image/png": {"schema": _FILE}},
            "headers": MODEL_HEADERS | TIMING_HEADERS,
        },
        406: {"description": "neither JSON nor PNG accepted", "content": PROBLEM},
        **ERRORS,
    },
    openapi_extra=ONE_IMAGE | SegmentParameters.document(),
)
async def segment(request: Request) -> Response:
    """Segments one image: multipart field `file`, or the image as the body.

    Answers JSON with per-class statistics and the mask, or with `Accept: image/png` the mask
    alone: an indexed PNG of the upload's size whose palette is the class colours.
    """
    asked, state = SegmentParameters.of(request), state_of(request)
    chosen = choose_output(",".join(request.headers.getlist("accept")), asked.output)
    require_working(state)
    request.state.model = state.registry.name_of(asked.model)
    with state.admission.visit():
        upload = await read_upload(request, max_bytes=state.settings.max_upload_bytes)
        deadline = _deadline(state, asked.patience_s)
        async with while_connected(request):
            served, segmented = await deadline.of(_segmented(state, asked.model, upload))
    headers = {
        "Server-Timing": _server_timing(segmented),
        **_model_headers(served),
        "Vary": "Accept",
    }
    if chosen == "png":
        return Response(segmented.png, media_type="image/png", headers=headers)
    content = segmented.to_response().model_dump_json()
    return Response(content, media_type="application/json", headers=headers)


@router.post(
    "/segment/batch",
    response_model=BatchResponse,
    responses={200: {"headers": MODEL_HEADERS}, **ERRORS},
    openapi_extra=SEVERAL_IMAGES | BatchParameters.document(),
)
async def segment_batch(request: Request, response: Response) -> BatchResponse:
    """Segments several images, each sent as a field `file`: a result or an error each, in order.
    Those that are not done in time are errors with the status 504."""
    asked, state = BatchParameters.of(request), state_of(request)
    require_working(state)
    request.state.model = state.registry.name_of(asked.model)
    with state.admission.visit():
        uploads = await read_uploads(request, max_files=state.settings.max_batch_files)
        deadline = _deadline(state, asked.patience_s)
        with state.admission.place(), state.registry.lease(asked.model) as served:
            batch = _Batch(state, served, request.state.request_id, deadline)
            async with while_connected(request):
                items = await batch.items(uploads)
    response.headers.update(_model_headers(served))
    return BatchResponse(results=items)


async def _segmented(
    state: State, model: str | None, upload: Upload
) -> tuple[LoadedModel, Segmented]:
    """In a place, which is kept for as long as any thread works on it."""
    with state.admission.place(), state.registry.lease(model) as served:
        aside = state.admission.aside
        return served, await served.segmenter.segment(upload, aside=aside)


@dataclass(frozen=True)
class _Batch:
    """What the images of one request have in common."""

    state: State
    model: LoadedModel
    request_id: str
    deadline: Deadline

    async def items(self, uploads: list[Upload]) -> list[BatchItem]:
        """No more at a time than keep everything busy: a batch has one place, like any request."""
        turns = asyncio.Semaphore(busy_images(self.model.batcher, self.state.codec.threads))

        async def in_turn(image: int, upload: Upload) -> BatchItem:
            async with turns:
                return await self._item(image, upload)

        return list(await asyncio.gather(*map(in_turn, count(), uploads)))

    async def _item(self, image: int, upload: Upload) -> BatchItem:
        try:
            require_size(upload, self.state.settings.max_upload_bytes)
            segmented = await self.deadline.of(self.model.segmenter.segment(upload, image=image))
        except ServiceError as error:
            return self._error(upload, error)
        except Exception as error:
            logger.error("unexpected error in a batch, request %s", self.request_id, exc_info=error)
            return self._error(
                upload, ServiceError("the service met an unexpected error; its log has it")
            )
        return BatchItem(filename=upload.name, status=200, result=segmented.to_response())

    def _error(self, upload: Upload, error: ServiceError) -> BatchItem:
        self.state.telemetry.metrics.rejected(error.reason)
        problem = Problem(
            title=error.title, status=error.status, detail=error.detail, request_id=self.request_id
        )
        return BatchItem(filename=upload.name, status=error.status, error=problem)


def _deadline(state: State, patience_s: float | None) -> Deadline:
    """From now on, as the client wishes and the settings allow."""
    return Deadline(min(patience_s or inf, state.settings.request_timeout_s))


def _model_headers(model: LoadedModel) -> dict[str, str]:
    weights = model.manifest.weights
    headers = {"X-Model": quote(model.name, safe=HEADER_SAFE)}
    if weights is not None:
        headers["X-Model-Digest"] = f"sha256:{weights.sha256}"
    return headers


def _server_timing(segmented: Segmented) -> str:
    return ", ".join(f"{name};dur={value:.1f}" for name, value in segmented.timing_ms.items())
