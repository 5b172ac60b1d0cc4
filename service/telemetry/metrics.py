"""Prometheus metrics of one app, in a registry of its own.

Label values come from the code and from loaded checkpoints, never from a request: whatever is
sent, there are no more series. Their objects are kept, so that a request looks up and adds.

Requests and images are counted for ever: their sums are what was answered, whichever models have
come and gone. A model's other series end with it.
"""

from collections import Counter as Multiset
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from models.manifest import Manifest
from service.telemetry.model_metrics import ModelFamilies, ModelMetrics

REQUEST_BUCKETS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
NO_MODEL = ""
OTHER_MODEL = "other"
MAX_NAMES = 100  # of models that have been loaded, told apart by what is counted for ever


class Metrics:
    """Counts what is told, and gives it away as text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = 0
        self._models = ModelFamilies(self.registry)
        self._watched = Multiset[str]()
        self._labels: dict[str, str] = {}  # of every model that has been loaded
        self._images = Counter(
            "maskwright_images_total",
            "Images answered; a batch has several.",
            ["model"],
            registry=self.registry,
        )
        self._requests = Counter(
            "maskwright_requests_total",
            "Requests answered; model is empty where none was asked for.",
            ["route", "model", "status"],
            registry=self.registry,
        )
        self._durations = Histogram(
            "maskwright_request_duration_seconds",
            "From a request's first byte to the end of its answer.",
            ["route", "status"],
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._rejections = Counter(
            "maskwright_rejections_total",
            "Requests, images of a batch and connections that were not served, by the reason.",
            ["reason"],
            registry=self.registry,
        )
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._reasons: dict[str, Counter] = {}
        ProcessCollector(registry=self.registry)

    def follow(self, collector: Collector) -> None:
        """To be asked at every scrape."""
        self.registry.register(collector)

    def watch(self, manifest: Manifest) -> ModelMetrics:
        """A loaded model's; `close` it when the model is unloaded."""
        name = manifest.name
        self._watched[name] += 1
        images = self._images.labels(self._label_of(name))
        return ModelMetrics(self._models, manifest, images, on_close=lambda: self._unwatch(name))

    def answered(self, route: str, model: str | None, status: int, seconds: float) -> None:
        label = NO_MODEL if model is None else self._labels.get(model, NO_MODEL)
        key = route, label, status
        found = self._answers.get(key)
        if found is None:
            requests = self._requests.labels(route, label, status)
            found = self._answers[key] = requests, self._durations.labels(route, status)
        requests, durations = found
        requests.inc()
        durations.observe(seconds)

    def rejected(self, reason: str) -> None:
        found = self._reasons.get(reason)
        if found is None:
            found = self._reasons[reason] = self._rejections.labels(reason)
        found.inc()

    def text(self) -> bytes:
        """Prometheus' text format, version 0.0.4."""
        return generate_latest(_WithoutCreated(self.registry))

    def _unwatch(self, name: str) -> None:
        """Its series end with the last model of that name, but for what is counted for ever."""
        self._watched[name] -= 1
        if self._watched[name] > 0:
            return
        del self._watched[name]
        self._models.forget(name)

    def _label_of(self, name: str) -> str:
        label = name if name in self._labels or len(self._labels) < MAX_NAMES else OTHER_MODEL
        return self._labels.setdefault(name, label)


class _WithoutCreated(Collector):
    """Every counter's time of birth, as a series of its own, doubles a scrape; the library can
    leave it out only for the whole process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [
                sample for sample in family.samples if not sample.name.endswith("_created")
            ]
            yield family
