"""POST /segment and POST /segment/batch."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response

from service.dependencies import AppState, State, require_ready
from service.errors import ServiceError
from service.loaded import LoadedModel
from service.negotiation import Output, choose_output
from service.routes.responses import ERRORS, GUARDED, MODEL_HEADERS, PROBLEM, TIMING_HEADERS
from service.schemas import BatchItem, BatchResponse, Problem, SegmentResponse
from service.security import require_scope
from service.segmenter import Segmented
from service.upload import Upload, read_upload, read_uploads, require_size

logger = logging.getLogger(__name__)

HEADER_SAFE = " !#$&'()*+,/:;=?@[]^`{|}~"  # other characters, which a header cannot hold: %XX

Model = Annotated[str | None, Query(description="a loaded model; the active one when absent")]

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


router = APIRouter(
    tags=["segmentation"], dependencies=[Depends(require_scope("segment"))], responses=GUARDED
)


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
    openapi_extra=ONE_IMAGE,
)
async def segment(
    request: Request,
    state: AppState,
    model: Model = None,
    output: Annotated[Output | None, Query(description="overrides Accept")] = None,
) -> Response:
    """Segments one image: multipart field `file`, or the image as the body.

    Answers JSON with per-class statistics and the mask, or with `Accept: image/png` the mask
    alone: an indexed PNG of the upload's size whose palette is the class colours.
    """
    chosen = choose_output(",".join(request.headers.getlist("accept")), output)
    require_ready(state)
    with state.registry.lease(model) as served:
        request.state.model = served.name
        upload = await read_upload(request, max_bytes=state.settings.max_upload_bytes)
        segmented = await served.segmenter.segment(upload)
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
    openapi_extra=SEVERAL_IMAGES,
)
async def segment_batch(
    request: Request, response: Response, state: AppState, model: Model = None
) -> BatchResponse:
    """Segments several images, each sent as a field `file`: a result or an error each, in order."""
    require_ready(state)
    with state.registry.lease(model) as served:
        request.state.model = served.name
        uploads = await read_uploads(request, max_files=state.settings.max_batch_files)
        batch = _Batch(state, served, request.state.request_id)
        items = await asyncio.gather(*map(batch.item, uploads))
    response.headers.update(_model_headers(served))
    return BatchResponse(results=list(items))


@dataclass(frozen=True)
class _Batch:
    """What the images of one request have in common."""

    state: State
    model: LoadedModel
    request_id: str

    async def item(self, upload: Upload) -> BatchItem:
        try:
            require_size(upload, self.state.settings.max_upload_bytes)
            segmented = await self.model.segmenter.segment(upload)
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


def _model_headers(model: LoadedModel) -> dict[str, str]:
    weights = model.manifest.weights
    headers = {"X-Model": quote(model.name, safe=HEADER_SAFE)}
    if weights is not None:
        headers["X-Model-Digest"] = f"sha256:{weights.sha256}"
    return headers


def _server_timing(segmented: Segmented) -> str:
    return ", ".join(f"{name};dur={value:.1f}" for name, value in segmented.timing_ms.items())
