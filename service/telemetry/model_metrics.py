"""What is counted for each loaded model: stages, passes, and the classes it sees."""

from collections.abc import Callable
from math import isfinite

from prometheus_client import CollectorRegistry, Counter, Histogram

from models.manifest import Manifest
from service.schemas import ClassStatistics
from service.stages import STAGES, Stages

STAGE_BUCKETS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
UNIT_BUCKETS = tuple(float(1 << power) for power in range(11))  # passes hold 1, 2, 4... units
PIXEL_BUCKETS = tuple(float(1 << power) for power in range(12, 25))


class ModelFamilies:
    """The metrics with the label `model`.

    Drift is read off two counters a class: the pixels where it was chosen, and the sum of its
    probability over them. Sums of many images are right where means of means are not, and counters
    can be added over replicas and asked about any window:
    `rate(class_pixels) / sum(rate(class_pixels))` is the class's share of what was seen,
    `rate(class_confidence) / rate(class_pixels)` its mean confidence.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stages = Histogram(
            "maskwright_stage_duration_seconds",
            "How long a stage of an image's way was busy.",
            ["model", "stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.pass_units = Histogram(
            "maskwright_pass_units",
            "Images or tiles in a pass through the network.",
            ["model"],
            buckets=UNIT_BUCKETS,
            registry=registry,
        )
        self.pass_pixels = Histogram(
            "maskwright_pass_pixels",
            "Network input pixels in a pass.",
            ["model"],
            buckets=PIXEL_BUCKETS,
            registry=registry,
        )
        self.pass_seconds = Histogram(
            "maskwright_pass_duration_seconds",
            "How long a pass took.",
            ["model"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.failed_passes = Counter(
            "maskwright_failed_passes_total",
            "Passes that the engine did not end.",
            ["model"],
            registry=registry,
        )
        self.class_pixels = Counter(
            "maskwright_class_pixels_total",
            "Pixels of answered images where the class was chosen.",
            ["model", "class"],
            registry=registry,
        )
        self.class_confidence = Counter(
            "maskwright_class_confidence_total",
            "Sum of the class's probability over the pixels where it was chosen.",
            ["model", "class"],
            registry=registry,
        )

    def forget(self, model: str) -> None:
        """Removes every series of a model."""
        families = (
            *(self.stages, self.pass_units, self.pass_pixels, self.pass_seconds),
            *(self.failed_passes, self.class_pixels, self.class_confidence),
        )
        for family in families:
            family.remove_by_labels({"model": model})


class ModelMetrics:
    """One loaded model's series: all of them are there, at 0, from the start. `images` is a counter
    that outlives it."""

    def __init__(
        self,
        families: ModelFamilies,
        manifest: Manifest,
        images: Counter,
        *,
        on_close: Callable[[], None],
    ) -> None:
        model, classes = manifest.name, manifest.class_set().classes
        self._unit_pixels = manifest.input.height * manifest.input.width
        self._on_close = on_close
        self._stages = {stage: families.stages.labels(model, stage) for stage in STAGES}
        self._pass_units = families.pass_units.labels(model)
        self._pass_pixels = families.pass_pixels.labels(model)
        self._pass_seconds = families.pass_seconds.labels(model)
        self._failed_passes = families.failed_passes.labels(model)
        self._images = images
        self._pixels = [families.class_pixels.labels(model, entry.name) for entry in classes]
        self._confidence = [
            families.class_confidence.labels(model, entry.name) for entry in classes
        ]

    def image_ended(self, stages: Stages, classes: list[ClassStatistics]) -> None:
        """`classes` are none where it failed; the stages that ran are counted all the same."""
        for stage, seconds in stages.seconds().items():
            self._stages[stage].observe(seconds)
        if classes:
            self._images.inc()
        for entry in classes:
            self._pixels[entry.id].inc(entry.pixels)
            if isfinite(entry.mean_confidence):  # what is no number would stay in the sum for ever
                self._confidence[entry.id].inc(entry.pixels * entry.mean_confidence)

    def pass_ended(self, units: int, seconds: float, failed: bool) -> None:
        if failed:
            self._failed_passes.inc()
            return
        self._pass_units.observe(units)
        self._pass_pixels.observe(units * self._unit_pixels)
        self._pass_seconds.observe(seconds)

    def close(self) -> None:
        """Twice is as good as once."""
        self._on_close()
        self._on_close = _nothing


def _nothing() -> None:
    pass
