"""A new file of the active model is served without being asked for."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from models import ListedCheckpoint
from models.manifest import Manifest
from service.errors import ServiceError
from service.listing import Listing
from service.registry import Registry

logger = logging.getLogger(__name__)


class Watch:
    """Looks at the file that the active model came from. A checkpoint's manifest is written last,
    so a file that fits its manifest is complete; one that cannot be loaded is not tried again
    before it changes.

    A bare `.pth` is served only where everything but its weights is as it was: between two copies
    by hand a manifest may be missing, and what is guessed in its place is another model.
    """

    def __init__(self, listing: Listing, registry: Registry) -> None:
        self._listing = listing
        self._registry = registry
        self._seen: ListedCheckpoint | None = None

    async def look(self) -> None:
        active = self._registry.active
        listed = await self._listing.listed(active.name)
        if listed is None or listed == self._seen:
            return
        self._seen = listed
        if listed.reason is not None:
            self._refuse(active.name, listed.reason)
        elif listed.is_bare and not _differs_in_weights_alone(listed.manifest, active.manifest):
            self._refuse(active.name, "its manifest is missing; load it to serve it all the same")
        elif listed.manifest != active.manifest or active.name in self._registry.failures:
            await self._reload(active.name)

    def _refuse(self, name: str, reason: str) -> None:
        self._registry.note_failure(name, reason)
        logger.warning("the new file of %s is not served: %s", name, reason)

    async def _reload(self, name: str) -> None:
        try:
            await self._registry.reload(name)
        except ServiceError as error:
            if name not in self._registry.failures:  # it was not even tried
                self._seen = None
                logger.warning("the new file of %s is not served yet: %s", name, error.detail)


def _differs_in_weights_alone(new: Manifest | None, active: Manifest) -> bool:
    return new is not None and new.model_copy(update={"weights": active.weights}) == active


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
