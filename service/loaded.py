"""A model that is in memory: its engine, what feeds it, and who still needs it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.manifest import Manifest
from service.batcher import Batcher
from service.engines.choose import Choice
from service.segmenter import Segmenter

logger = logging.getLogger(__name__)


class LoadedModel:
    """One checkpoint's, from its load to `close`; two of one name are two of these.

    Requests hold a lease, so that each is answered by the model that it began with. Leases are
    taken and closing is begun in the event loop alone.
    """

    def __init__(
        self,
        manifest: Manifest,
        choice: Choice,
        segmenter: Segmenter,
        *,
        on_close: Callable[[], None],
    ) -> None:
        self.manifest = manifest
        self.choice = choice
        self.segmenter = segmenter
        self._on_close = on_close
        self._leases = 0
        self._returned = asyncio.Event()

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def batcher(self) -> Batcher:
        return self.segmenter.batcher

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Until its end the model is not closed."""
        self._leases += 1
        try:
            yield
        finally:
            self._leases -= 1
            self._returned.set()

    async def close(self) -> None:
        """Waits until nobody needs it, answers what was accepted and frees its memory."""
        while self._leases:
            self._returned.clear()
            await self._returned.wait()
        await asyncio.to_thread(self.discard)
        logger.info("unloaded: %s", self.name)

    def discard(self) -> None:
        """Frees its memory, from a thread that may wait; nobody has a lease."""
        self.batcher.close()
        self.choice.engine.close()
        self._on_close()
