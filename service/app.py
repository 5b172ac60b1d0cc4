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
from service.engines.capacity import find_capacity, pass_size, pass_sizes
from service.engines.choose import Wishes, choose_engine
from service.engines.engine import Engine
from service.errors import StartupError
from service.middleware import BodyLimit, PageHeaders, RequestContext, add_cors
from service.problems import add_problem_handlers
from service.routes import models, operations, segment
from service.routes.operations import WEB
from service.security import Access
from service.security.document import document_keys
from service.segmenter import Segmenter
from service.settings import Settings
from service.trust import Trust
from service.upload import FORM_OVERHEAD

logger = logging.getLogger(__name__)

MAX_PASS_PIXELS = 1 << 22  # 64 inputs of 256x256: beyond that no device gets faster


def create_app(settings: Settings) -> FastAPI:
    """Loads the checkpoint now, so a wrong one raises StartupError before anything listens; the
    lifespan warms up, serves, and answers what was accepted before it ends."""
    access = Access(settings)
    engine, state = _assemble(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        capacity = await run_in_threadpool(_warm_up, engine, state)
        state.segmenter.batcher.start(capacity=capacity)
        state.ready = True
        logger.info("ready: %s", state.catalog.active.name)
        yield
        state.ready = False
        await state.segmenter.close()
        engine.close()

    app = FastAPIOffline(
        title="Maskwright",
        version=_version(),
        summary="Semantic segmentation of uploaded images.",
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/static",
    )
    app.state.service = state
    app.state.access = access
    add_problem_handlers(app)
    for routes in (segment, models, operations):
        app.include_router(routes.router)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    document_keys(app, guards=access.guards)
    app.add_middleware(BodyLimit, limit_of=_body_limits(settings))
    app.add_middleware(PageHeaders)
    add_cors(app, settings.cors_origin)
    app.add_middleware(RequestContext)
    return app


def _assemble(settings: Settings) -> tuple[Engine, State]:
    """From the folder of checkpoints to the engine, and what feeds it."""
    trust = Trust(settings.checkpoints, settings.allowed_sha256)
    checkpoint = load_active(settings.checkpoints, settings.model, trust)
    wishes = Wishes(
        device=settings.device,
        engine=settings.engine,
        precision=settings.precision,
        compiled=settings.compile,
        exports=settings.checkpoints,
        cache=settings.cache,
        calibration_images=settings.calibration_images,
        golden_images=settings.golden_images,
    )
    try:
        choice = choose_engine(checkpoint, wishes)
    except ModelError as error:
        raise StartupError(f"--device {settings.device}: {error}") from error
    batcher = Batcher(choice.engine, max_waiting=settings.max_queue)
    segmenter = Segmenter(
        checkpoint.manifest,
        batcher,
        threads=settings.threads,
        max_pixels=settings.max_pixels,
        max_waiting=settings.max_queue,
    )
    catalog = Catalog(settings.checkpoints, checkpoint.manifest, choice, trust)
    return choice.engine, State(settings, catalog, segmenter)


def _warm_up(engine: Engine, state: State) -> int:
    """The first passes choose kernels and allocate; no request should pay for that."""
    spec = state.catalog.active.input
    fixed = state.settings.batch_pixels
    if fixed is None:
        capacity = find_capacity(engine, spec, max_pixels=MAX_PASS_PIXELS)
    else:
        capacity = pass_size(max(1, fixed // (spec.height * spec.width)))
        for count in pass_sizes(capacity):
            engine.warm_up(count)
    logger.info("%d of %dx%d in a pass", capacity, spec.width, spec.height)
    return capacity


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
