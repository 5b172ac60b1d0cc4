"""`create_app`: settings in, ASGI application out. No state outside it."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from models.errors import ModelError
from service.batcher import Batcher
from service.catalog import Catalog, load_active
from service.dependencies import State
from service.engine import Engine
from service.errors import StartupError
from service.middleware import BodyLimit, PageHeaders, RequestContext
from service.problems import add_problem_handlers
from service.routes import models, operations, segment
from service.routes.operations import WEB
from service.segmenter import Segmenter
from service.settings import Settings
from service.upload import FORM_OVERHEAD

logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Loads the checkpoint now, so a wrong one raises StartupError before anything listens; the
    lifespan warms up, serves, and answers what was accepted before it ends."""
    engine, state = _assemble(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(engine.warm_up)
        state.segmenter.batcher.start()
        state.ready = True
        logger.info("ready: %s", state.catalog.active.name)
        yield
        state.ready = False
        await state.segmenter.close()

    app = FastAPIOffline(
        title="Maskwright",
        version=_version(),
        summary="Semantic segmentation of uploaded images.",
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/static",
    )
    app.state.service = state
    add_problem_handlers(app)
    for routes in (segment, models, operations):
        app.include_router(routes.router)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    app.add_middleware(BodyLimit, limit_of=_body_limits(settings))
    app.add_middleware(PageHeaders)
    app.add_middleware(RequestContext)
    return app


def _assemble(settings: Settings) -> tuple[Engine, State]:
    """From the folder of checkpoints to the engine, and what feeds it."""
    checkpoint = load_active(settings.checkpoints, settings.model)
    manifest = checkpoint.manifest
    per_pass = max(1, settings.batch_pixels // (manifest.input.height * manifest.input.width))
    try:
        engine = Engine(
            checkpoint,
            device=settings.device,
            precision=settings.precision,
            tiles_per_pass=per_pass,
        )
    except ModelError as error:
        raise StartupError(f"--device {settings.device}: {error}") from error
    batcher = Batcher(
        engine.run,
        # a tiled image makes passes of its own; another's would only delay its answer
        max_batch=1 if manifest.input.mode == "tile" else per_pass,
        max_queue=settings.max_queue,
    )
    segmenter = Segmenter(
        manifest,
        batcher,
        threads=settings.threads,
        max_pixels=settings.max_pixels,
        max_waiting=settings.max_queue,
    )
    return engine, State(settings, Catalog(settings.checkpoints, manifest), segmenter)


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
