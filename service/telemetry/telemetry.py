"""Everything that one app tells of itself, and one loaded model's part of it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from models.manifest import Manifest
from service.schemas import ClassStatistics
from service.stages import Stages
from service.telemetry.metrics import Metrics
from service.telemetry.model_metrics import ModelMetrics

if TYPE_CHECKING:
    from service.telemetry.spans import Spans


class Telemetry:
    """Metrics always, spans where they are wanted."""

    def __init__(self, spans: "Spans | None" = None) -> None:
        self.metrics = Metrics()
        self._spans = spans
        # a driver that hangs when it is asked for its memory holds up nobody else
        self._scrapes = ThreadPoolExecutor(1, thread_name_prefix="scrape")

    def watch(self, manifest: Manifest) -> "ModelWatch":
        """For a model that is being loaded; `close` it when the model is unloaded."""
        return ModelWatch(manifest.name, self.metrics.watch(manifest), self._spans)

    def request_began(self, request_id: str | None) -> str | None:
        """The id of its trace, where there are spans."""
        return None if self._spans is None else self._spans.request_began(request_id)

    def step(self, name: str) -> AbstractContextManager[object]:
        """A step of what a request asked for, that is not an image."""
        return nullcontext() if self._spans is None else self._spans.step(name)

    async def scrape(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return await asyncio.get_running_loop().run_in_executor(self._scrapes, self.metrics.text)

    async def close(self) -> None:
        """Sends the spans that are left."""
        self._scrapes.shutdown(wait=False, cancel_futures=True)
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)


class ModelWatch:
    """What a model's batcher and segmenter are given to tell of passes and images."""

    def __init__(self, model: str, metrics: ModelMetrics, spans: "Spans | None") -> None:
        self._model = model
        self._metrics = metrics
        self._spans = spans
        self.pass_ended = metrics.pass_ended

    def image_ended(self, stages: Stages, classes: list[ClassStatistics]) -> None:
        self._metrics.image_ended(stages, classes)
        if self._spans is not None:
            self._spans.image_ended(self._model, stages, failed=not classes)

    def close(self) -> None:
        """The model's series end, unless another of its name is loaded."""
        self._metrics.close()
