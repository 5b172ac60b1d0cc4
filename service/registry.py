"""The models in memory, and the one that answers unless a request names another."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from models.manifest import Manifest
from service.catalog import Catalog
from service.entries import loaded_entry
from service.errors import (
    ConflictError,
    OverloadedError,
    ServiceError,
    UnknownModelError,
)
from service.loaded import LoadedModel
from service.loader import Loader
from service.schemas import ModelEntry

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_WAITING = 16  # changes at a time: each may take seconds
DRAIN_S = 60.0  # how long a change waits for the memory of what was unloaded


class Registry:
    """At most `limit` models; a change holds one more until it is over.

    Changes are made one at a time: the new model is loaded beside the others, in a thread, and is
    then put in its place in one step of the event loop. Whatever fails before leaves everything as
    it was. What was replaced is closed once the requests that began with it are answered.
    """

    def __init__(
        self, catalog: Catalog, loader: Loader, active: LoadedModel, *, limit: int
    ) -> None:
        self.active = active
        self._catalog = catalog
        self._loader = loader
        self._limit = limit
        self._loaded = {active.name: active}
        self._failures: dict[str, str] = {}
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self._draining: dict[asyncio.Task[None], LoadedModel] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")

    @contextmanager
    def lease(self, name: str | None) -> Iterator[LoadedModel]:
        """The active model, or a loaded one by its name, which stays in memory meanwhile."""
        model = self._asked_for(name)
        with model.lease():
            yield model

    def name_of(self, name: str | None) -> str:
        """Of the model that would answer now; UnknownModelError where none would."""
        return self._asked_for(name).name

    def _asked_for(self, name: str | None) -> LoadedModel:
        model = self.active if name is None else self._loaded.get(name)
        if model is None:
            loaded = ", ".join(map(repr, sorted(self._loaded)))
            verb = "is" if len(self._loaded) == 1 else "are"
            raise UnknownModelError(f"model {name!r} is not loaded; {loaded} {verb}")
        return model

    def find(self, name: str) -> LoadedModel | None:
        return self._loaded.get(name)

    def loaded(self) -> list[LoadedModel]:
        """Those that answer."""
        return list(self._loaded.values())

    def draining(self) -> list[LoadedModel]:
        """Those that were replaced or unloaded, and are in memory until they have answered."""
        return list(self._draining.values())

    def models(self) -> list[LoadedModel]:
        """All that are in memory; from any thread."""
        return self.loaded() + self.draining()

    def entries(self) -> list[ModelEntry]:
        return [self.entry(model) for model in self._loaded.values()]

    def entry(self, model: LoadedModel) -> ModelEntry:
        return loaded_entry(
            model.manifest,
            model.choice,
            active=model is self.active,
            failure=self._failures.get(model.name),
        )

    @property
    def failures(self) -> Mapping[str, str]:
        """Why the last load of a name failed, of those that were not loaded since."""
        return dict(self._failures)

    def note_failure(self, name: str, reason: str) -> None:
        """To be shown until the next load of that name."""
        self._failures[name] = reason

    async def warm_up(self) -> None:
        """The first model's; until then nothing may be asked of it."""
        await self._in_thread(lambda: self._loader.warm_up(self.active, undisturbed=True))

    async def load(self, name: str) -> tuple[LoadedModel, bool]:
        """The model, and whether it was loaded now. One whose file has changed since is loaded
        again and takes its own place."""
        return await self._change(self._load(name))

    async def reload(self, name: str, expected: Manifest) -> None:
        """As `load`, for a name that is loaded, others being left as they are, and for the file
        that `expected` was seen of: OverloadedError where another lies there by then."""
        await self._change(self._reload(name, expected))

    async def activate(self, name: str) -> LoadedModel:
        """Loads where necessary, then lets it answer. Where the limit does not allow both, what
        was active is unloaded."""
        return await self._change(self._activate(name))

    async def unload(self, name: str) -> None:
        """Returns when its memory is free; OverloadedError where that takes long. Does nothing
        for a checkpoint that is not loaded."""
        closing = await self._change(self._unload(name))
        if closing:
            _, left = await asyncio.wait(closing, timeout=DRAIN_S)
            if left:
                raise OverloadedError(
                    f"model {name!r} is asked nothing more, and still answers what it was asked"
                )

    def stop(self) -> None:
        """No more changes; may be called from a signal's handler."""
        self._loader.stop()

    async def close(self) -> None:
        """Gives up what is being loaded and closes every model, once it has answered."""
        self.stop()
        if self._changes:
            await asyncio.wait(self._changes)
        for model in self._loaded.values():
            self._retire(model)
        if self._draining:
            await asyncio.wait(self._draining)
        self._thread.shutdown()

    async def _load(self, name: str, expected: Manifest | None = None) -> tuple[LoadedModel, bool]:
        old = self._loaded.get(name)
        path = await self._path(name, old)
        if old is None and len(self._loaded) >= self._limit:
            raise ConflictError(
                f"{len(self._loaded)} models are loaded and --max-loaded-models {self._limit} "
                "allows no more; unload one"
            )
        model = await self._made(name, path, old, expected)
        if model is not old:
            self._put(model)
        return model, model is not old

    async def _reload(self, name: str, expected: Manifest) -> None:
        if name in self._loaded:
            await self._load(name, expected)

    async def _activate(self, name: str) -> LoadedModel:
        old, before = self._loaded.get(name), self.active
        model = await self._made(name, await self._path(name, old), old)
        if model is not old:
            self._put(model)
        self.active = model
        if len(self._loaded) > self._limit:
            self._retire(self._loaded.pop(before.name))
        logger.info("active: %s", name)
        return model

    async def _unload(self, name: str) -> list[asyncio.Task[None]]:
        """What frees its memory, also where that was begun before."""
        model = self._loaded.get(name)
        if model is None:
            await self._path(name, None)
        elif model is self.active:
            raise ConflictError(f"model {name!r} is the active one; activate another first")
        else:
            self._retire(self._loaded.pop(name))
        return [task for task, model in self._draining.items() if model.name == name]

    def _put(self, model: LoadedModel) -> None:
        """In the place of what had its name."""
        old = self._loaded.get(model.name)
        self._loaded[model.name] = model
        logger.info("loaded: %s", model.name)
        if old is not None:
            if old is self.active:
                self.active = model
            self._retire(old)

    async def _path(self, name: str, old: LoadedModel | None) -> Path | None:
        """UnknownModelError for a name without a file; None where it is in memory all the same."""
        try:
            return await self._in_thread(lambda: self._catalog.path(name))
        except UnknownModelError:
            if old is None:
                raise
            return None

    async def _made(
        self,
        name: str,
        path: Path | None,
        old: LoadedModel | None,
        expected: Manifest | None = None,
    ) -> LoadedModel:
        """Loaded from the file; `old` where that would be the same."""
        if path is None:
            assert old is not None
            return old
        await self._drained()
        try:
            model = await self._in_thread(
                lambda: self._loader.load(path, name, instead_of=old, expected=expected)
            )
        except ServiceError as error:
            self.note_failure(name, error.detail)
            logger.warning("all goes on as it was: %s", error.detail)
            raise
        self._failures.pop(name, None)
        return model

    async def _drained(self) -> None:
        """Models that still answer hold memory; loading more of them is not done before. None
        does so longer than a request may take, unless the device is stuck."""
        if not self._draining:
            return
        _, left = await asyncio.wait(self._draining, timeout=DRAIN_S)
        if left:
            raise OverloadedError("a model that was replaced still answers what it was asked")

    def _retire(self, model: LoadedModel) -> None:
        task = asyncio.create_task(model.close())
        self._draining[task] = model
        task.add_done_callback(self._draining.pop)

    async def _change(self, work: Coroutine[Any, Any, T]) -> T:
        """In its turn, and to its end even if who asked for it does not wait."""
        if len(self._changes) >= MAX_WAITING:
            work.close()
            raise OverloadedError(f"{len(self._changes)} changes are waiting already")
        task = asyncio.create_task(self._in_turn(work))
        self._changes.add(task)
        task.add_done_callback(self._settle)
        return await asyncio.shield(task)

    async def _in_turn(self, work: Coroutine[Any, Any, T]) -> T:
        async with self._turn:
            return await work

    def _settle(self, task: asyncio.Task[Any]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # was told to who waited, if somebody did

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """In its context: what is logged there belongs to the request."""
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: context.run(work)
        )
