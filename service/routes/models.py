"""GET /models and GET /models/{name}."""

from fastapi import APIRouter

from models.manifest import Manifest
from service.dependencies import AppState
from service.redaction import manifest_without_folders
from service.routes.responses import ERRORS, GUARDED
from service.schemas import ModelList
from service.security import guarded_route

router = APIRouter(tags=["models"], route_class=guarded_route("segment"), responses=GUARDED)


@router.get("/models")
async def list_models(state: AppState) -> ModelList:
    """Every checkpoint in the folder: which are loaded, which could be, which cannot and why."""
    registry = state.registry
    active, loaded, failures = registry.active.name, registry.entries(), registry.failures
    entries = await state.listing.entries(loaded, failures)
    return ModelList(active=active, models=entries)


@router.get("/models/{name}", responses={404: ERRORS[404], 422: ERRORS[422]})
async def model_manifest(name: str, state: AppState) -> Manifest:
    """The manifest: architecture, classes, input, metrics, training, and the weights' hash."""
    loaded = state.registry.find(name)
    if loaded is not None:
        return manifest_without_folders(loaded.manifest)
    return manifest_without_folders(await state.listing.manifest(name))
