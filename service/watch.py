"""A new file of a loaded model is served without being asked for."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from models import ListedCheckpoint
from models.manifest import Manifest
from service.errors import OverloadedError, ServiceError
from service.listing import Listing
from service.loaded import LoadedModel
from service.registry import Registry

logger = logging.getLogger(__name__)

MAX_PAUSE = 64  # looks


@dataclass
class Looks:
    """At one name: what was `settled` there, and how many looks are left out before a file that
    there was no memory for is tried again."""

    settled: ListedCheckpoint | None = None
    pause: int = 1
    left_out: int = 0

    def put_off(self) -> None:
        self.settled = None
        self.left_out = self.pause
        self.pause = min(2 * self.pause, MAX_PAUSE)


class Watch:
    """Looks at the files that the loaded models came from. A checkpoint's manifest is written
    last, so a file that fits its manifest is complete; one that is refused is not tried again
    before it changes, one that there was no memory for is, ever more rarely.

    A bare `.pth` is served only where everything but its weights is as it was: between two copies
    by hand a manifest may be missing, and what is guessed in its place is another model.
    """

    def __init__(self, listing: Listing, registry: Registry) -> None:
        self._listing = listing
        self._registry = registry
        self._looks: dict[str, Looks] = {}

    async def look(self) -> None:
        models = self._registry.loaded()
        self._looks = {model.name: self._looks.get(model.name, Looks()) for model in models}
        for model in models:
            await self._look(model, self._looks[model.name])

    async def _look(self, model: LoadedModel, looks: Looks) -> None:
        if looks.left_out:
            looks.left_out -= 1
            return
        listed = await self._listing.listed(model.name)
        if listed is None or listed == looks.settled:
            return
        looks.settled = listed
        if listed.manifest is None:
            self._refuse(model.name, str(listed.reason))
        elif listed.is_bare and not _differs_in_weights_alone(listed.manifest, model.manifest):
            self._refuse(model.name, "its manifest is missing; load it to serve it all the same")
        elif listed.manifest != model.manifest or model.name in self._registry.failures:
            await self._reload(listed.manifest, looks)

    def _refuse(self, name: str, reason: str) -> None:
        self._registry.note_failure(name, reason)
        logger.warning("the new file of %s is not served: %s", name, reason)

    async def _reload(self, manifest: Manifest, looks: Looks) -> None:
        name = manifest.name
        try:
            await self._registry.reload(name, manifest)
            looks.pause = 1
        except OverloadedError as error:
            looks.put_off()
            logger.warning("the new file of %s is not served yet: %s", name, error.detail)
        except ServiceError:
            looks.pause = 1  # why is logged, and listed, where it failed


def _differs_in_weights_alone(new: Manifest, active: Manifest) -> bool:
    return new.model_copy(update={"weights": active.weights}) == active


@asynccontextmanager
async def watching(listing: Listing, registry: Registry, *, every_s: float) -> AsyncIterator[None]:
    """Looks every `every_s` seconds; never where that is 0."""
    if not every_s:
        yield
        return
    task = asyncio.create_task(_watch(Watch(listing, registry), every_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _watch(watch: Watch, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await watch.look()
        except Exception:
            logger.exception("looking for a new file failed")
