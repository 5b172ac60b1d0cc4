"""Health, readiness, metrics and the page."""

from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.dependencies import AppState
from service.routes.responses import GUARDED
from service.schemas import Health
from service.security import guarded_route

WEB = Path(__file__).resolve().parents[1] / "web"

router = APIRouter(tags=["operations"])
measured = APIRouter(tags=["operations"], route_class=guarded_route("metrics"), responses=GUARDED)


@router.get("/healthz", responses={503: {"model": Health, "description": "to be restarted"}})
async def healthz(state: AppState, response: Response) -> Health:
    """200 while the process answers and its device does; nothing but a new process mends a 503."""
    trouble = state.trouble()
    if trouble is not None:
        response.status_code = 503
        return Health(status="stuck", reason=trouble)
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health, "description": "send nothing here"}})
async def readyz(state: AppState, response: Response) -> Health:
    """200 after warm-up and until it is told to stop, while it is healthy."""
    reason = state.trouble() if state.ready else state.phase
    if reason is not None:
        response.status_code = 503
        return Health(status="not ready", reason=reason)
    return Health(status="ready", model=state.registry.active.name)


@measured.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(state: AppState) -> Response:
    """For Prometheus, in its text format."""
    return Response(await state.telemetry.scrape(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(WEB / "index.html")
