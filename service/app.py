"""`create_app`: settings in, ASGI application out. No state outside it."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from models.errors import ModelError
from service.admission import BURST, Admission, busy_images
from service.body import BodyLimit, UploadMemory
from service.catalog import Catalog, load_active
from service.codec import Codec
from service.dependencies import State
from service.errors import OverloadedError, StartupError
from service.listing import Listing
from service.loader import Loader
from service.middleware import CutOffs, PageHeaders, RequestContext, UnexpectedErrors, add_cors
from service.problems import add_problem_handlers
from service.registry import Registry
from service.routes import admin, models, operations, segment
from service.routes.operations import WEB
from service.security import Access
from service.security.document import document_keys
from service.settings import FORM_OVERHEAD, Settings
from service.telemetry.access import AccessLog
from service.telemetry.moment import Moment
from service.telemetry.telemetry import Telemetry
from service.trust import Trust
from service.watch import watching

if TYPE_CHECKING:
    from service.telemetry.spans import Spans

logger = logging.getLogger(__name__)


def create_app(settings: Settings, *, spans: "Spans | None" = None) -> FastAPI:
    """Loads the checkpoint now, so a wrong one raises StartupError before anything listens; the
    lifespan warms up, serves, and answers what was accepted before it ends."""
    access = Access(settings)
    uploads = UploadMemory(settings.max_upload_memory)
    state = _assemble(settings, uploads, access, Telemetry(spans))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await state.registry.warm_up()
        except OverloadedError:
            if state.phase != "stopping":  # then it was given up, and there is nothing to say
                raise
        if state.phase == "starting":  # it may have been told to stop meanwhile
            state.phase = "ready"
            logger.info("ready: %s", state.registry.active.name)
        async with watching(state.listing, state.registry, every_s=settings.watch):
            yield
        state.stop()
        await state.registry.close()
        state.listing.close()
        state.codec.close()
        await state.telemetry.close()

    tracing: Any = {} if spans is None else {"telemetry": spans.app_options()}
    app = FastAPIOffline(
        title="Maskwright",
        version=_version(),
        summary="Semantic segmentation of uploaded images.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever Host a client names, and to http
        static_url="/docs/static",
        **tracing,
    )
    app.state.service = state
    app.state.access = access
    add_problem_handlers(app)
    for router in (
        *(segment.router, models.router, admin.router),
        *(operations.router, operations.measured),
    ):
        app.include_router(router)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    document_keys(app, guards=access.guards)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(
        BodyLimit,
        limit_of=_body_limits(settings),
        memory=uploads,
        patience_s=settings.upload_timeout_s,
    )
    app.add_middleware(PageHeaders)
    app.add_middleware(CutOffs, is_stopping=lambda: state.phase == "stopping")
    add_cors(app, settings.cors_origin)
    # every other middleware before this line: what it answers is seen as well
    app.add_middleware(AccessLog, telemetry=state.telemetry)
    app.add_middleware(RequestContext)
    return app


def _assemble(
    settings: Settings, uploads: UploadMemory, access: Access, telemetry: Telemetry
) -> State:
    """From the folder of checkpoints to the first model, and what will load others."""
    trust = Trust(settings.checkpoints, settings.allowed_sha256)
    checkpoint = load_active(settings.checkpoints, settings.model, trust)
    try:
        codec = Codec(threads=settings.threads, max_pixels=settings.max_pixels)
    except RuntimeError as error:
        raise StartupError(f"--threads {settings.threads}: {error}") from error
    loader = Loader(settings, codec, telemetry, trust)
    try:
        model = loader.assemble(checkpoint)
    except ModelError as error:
        raise StartupError(f"--device {settings.device}: {error}") from error
    catalog = Catalog(settings.checkpoints, trust)
    registry = Registry(catalog, loader, model, limit=settings.max_loaded_models)
    admission = Admission(
        lambda: settings.max_queue or busy_images(registry.active.batcher, codec.threads),
        burst=0 if settings.max_queue else BURST,
    )
    state = State(settings, Listing(catalog), codec, registry, admission, telemetry)
    telemetry.metrics.follow(
        Moment(
            ready=lambda: state.ready and state.trouble() is None,
            keys_in_order=lambda: access.keys.in_order,
            in_flight=lambda: telemetry.metrics.in_flight,
            admission=admission,
            uploads=uploads,
            budget=codec.budget,
            models=registry.models,
            draining=lambda: len(registry.draining()),
        )
    )
    return state


def _body_limits(settings: Settings) -> Callable[[str], int]:
    def limit_of(path: str) -> int:
        if path == "/segment/batch":
            return settings.max_batch_bytes
        return settings.max_upload_bytes + FORM_OVERHEAD

    return limit_of


def _version() -> str:
    try:
        return version("maskwright")
    except PackageNotFoundError:
        return "0"
