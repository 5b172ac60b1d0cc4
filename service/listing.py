"""What asks for the folder of checkpoints while the service answers: in threads of its own.

A folder may hold hundreds of files to hash, on a disk that is slow: whoever waits for it holds
none of the threads that others need, and however many ask, one listing is made at a time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from models import ListedCheckpoint
from models.manifest import Manifest
from service.catalog import Catalog
from service.schemas import ModelEntry

T = TypeVar("T")


class Listing:
    """A catalog's, for the event loop. After `stop` no further file is read."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._all = ThreadPoolExecutor(1, thread_name_prefix="list")
        self._single = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._last: Future[list[ListedCheckpoint]] | None = None

    async def entries(
        self, loaded: Sequence[ModelEntry], failures: Mapping[str, str]
    ) -> list[ModelEntry]:
        """As `Catalog.entries`. All who ask before the next listing begins share it: each sees
        what lay in the folder when it asked."""
        if self._last is None or self._last.running() or self._last.done():
            self._last = self._all.submit(self._catalog.all_listed)
        found = await asyncio.shield(asyncio.wrap_future(self._last))
        return self._catalog.entries(loaded, failures, found)

    async def manifest(self, name: str) -> Manifest:
        """As `Catalog.manifest`; waits for no listing."""
        return await self._look(lambda: self._catalog.manifest(name))

    async def listed(self, name: str) -> ListedCheckpoint | None:
        """As `Catalog.listed`; waits for no listing."""
        return await self._look(lambda: self._catalog.listed(name))

    def stop(self) -> None:
        """May be called from a signal's handler."""
        self._catalog.stop()

    def close(self) -> None:
        """Waits for nothing: what still reads a file ends after it."""
        self.stop()
        for threads in (self._all, self._single):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _look(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._single, work)
