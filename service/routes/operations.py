"""Health, readiness, metrics and the page."""

from pathlib import Path

from fastapi import APIRouter, Depends, Response
from fastapi.responses import FileResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.dependencies import AppState
from service.routes.responses import GUARDED
from service.schemas import Health
from service.security import require_scope

WEB = Path(__file__).resolve().parents[1] / "web"

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> Health:
    """200 while the process answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health}})
async def readyz(state: AppState, response: Response) -> Health:
    """200 only after warm-up and until shutdown begins."""
    if not state.ready:
        response.status_code = 503
        return Health(status="not ready", reason="warming up or stopping")
    return Health(status="ready", model=state.registry.active.name)


@router.get(
    "/metrics",
    dependencies=[Depends(require_scope("segment"))],
    response_class=Response,
    responses=GUARDED | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(state: AppState) -> Response:
    """For Prometheus, in its text format."""
    return Response(state.telemetry.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(WEB / "index.html")
