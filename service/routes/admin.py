"""POST /models/{name}/load, activate and unload."""

from fastapi import APIRouter, Response

from service.dependencies import AppState, require_ready
from service.routes.responses import GUARDED, RETRY_AFTER, Responses, problem
from service.schemas import ModelEntry
from service.security import guarded_route

ADMIN_ERRORS: Responses = {
    404: problem("unknown model"),
    409: problem("the active model, or no room for another"),
    422: problem("a checkpoint that cannot be loaded"),
    503: problem("not ready, stopping, or no memory for another", RETRY_AFTER),
}

router = APIRouter(
    tags=["admin"], route_class=guarded_route("admin"), responses=GUARDED | ADMIN_ERRORS
)


@router.post(
    "/models/{name}/load", responses={201: {"model": ModelEntry, "description": "loaded now"}}
)
async def load_model(name: str, state: AppState, response: Response) -> ModelEntry:
    """Loads a checkpoint beside the others: 201, or 200 where that was so already. A file that
    has changed since takes the place of what was loaded from it."""
    require_ready(state)
    model, is_new = await state.registry.load(name)
    response.status_code = 201 if is_new else 200
    return state.registry.entry(model)


@router.post("/models/{name}/activate")
async def activate_model(name: str, state: AppState) -> ModelEntry:
    """Lets a checkpoint answer from now on, loaded first where necessary. What was active stays
    loaded if `--max-loaded-models` allows it, and answers the requests it began in any case."""
    require_ready(state)
    return state.registry.entry(await state.registry.activate(name))


@router.post("/models/{name}/unload", status_code=204)
async def unload_model(name: str, state: AppState) -> None:
    """Frees a model's memory, once it has answered the requests it began."""
    require_ready(state)
    await state.registry.unload(name)
