"""What is true at the moment of a scrape and counted nowhere: queues, memory, what is loaded."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.manifest import Manifest
from service.admission import Admission
from service.batcher import Batcher
from service.body import UploadMemory
from service.budget import PixelBudget

# name after the prefix, help, labels
GAUGES = {
    "api_key_file_ok": ("0 while --api-key-file is gone or has lines that cannot be read.", ()),
    "ready": ("1 while /readyz says so.", ()),
    "requests_in_flight": ("Requests that have no answer yet.", ()),
    "places_taken": ("Requests that are being answered, their upload complete.", ()),
    "places_limit": ("How many there may be: --max-queue.", ()),
    "upload_held_bytes": ("Bytes of request bodies in memory.", ()),
    "upload_held_bytes_limit": ("--max-upload-memory.", ()),
    "decode_waiting_images": ("Images that wait for memory to be decoded in.", ()),
    "decode_held_pixels": ("Pixels of decoded images in memory.", ()),
    "decode_held_pixels_limit": ("--max-pixels, and three quarters of it for smaller images.", ()),
    "device_images": ("Images in the device, or waiting for it.", ("model",)),
    "device_waiting_images": ("Images that wait for their first pass.", ("model",)),
    "device_queued_units": ("Images or tiles that wait for a pass.", ("model",)),
    "device_running_passes": ("Passes in the device.", ("model",)),
    "device_lanes": ("Passes that may be in the device at a time.", ("model",)),
    "device_capacity_units": ("Images or tiles that a pass may hold.", ("model",)),
    "device_memory_bytes": ("Memory of a GPU.", ("device", "kind")),
    "draining_models": ("Models that were replaced or unloaded and still answer.", ()),
    "model_info": (
        "1 for each model in memory.",
        ("model", "digest", "architecture", "engine", "precision", "device"),
    ),
}


class Loaded(Protocol):
    """A model in memory."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def batcher(self) -> Batcher: ...


@dataclass(frozen=True)
class Moment(Collector):
    """Asks, so that nothing has to be kept up to date. Two models of one name, while one takes
    the other's place, are one series: Prometheus refuses a scrape that has one twice."""

    ready: Callable[[], bool]
    keys_in_order: Callable[[], bool]
    in_flight: Callable[[], int]
    admission: Admission
    uploads: UploadMemory
    budget: PixelBudget
    models: Callable[[], Iterable[Loaded]]
    draining: Callable[[], int]

    def collect(self) -> Iterator[Metric]:
        values = {name: Counter[tuple[str, ...]]() for name in GAUGES}
        for name, value in self._process().items():
            values[name][()] = value
        models = list(self.models())
        for model in models:
            for name, value in _load(model).items():
                values[name][(model.manifest.name,)] += value
            values["model_info"][_info(model)] = 1
        for device in {model.batcher.engine.device for model in models}:
            for kind, size in device_memory(device).items():
                values["device_memory_bytes"][(str(device), kind)] = size
        for name, (text, labels) in GAUGES.items():
            family = GaugeMetricFamily(f"maskwright_{name}", text, labels=labels)
            for key, value in values[name].items():
                family.add_metric(key, value)
            yield family

    def _process(self) -> dict[str, int]:
        return {
            "api_key_file_ok": int(self.keys_in_order()),
            "ready": int(self.ready()),
            "requests_in_flight": self.in_flight(),
            "draining_models": self.draining(),
            "places_taken": self.admission.inside,
            "places_limit": self.admission.limit,
            "upload_held_bytes": self.uploads.held,
            "upload_held_bytes_limit": self.uploads.limit,
            "decode_waiting_images": self.budget.waiting,
            "decode_held_pixels": self.budget.held,
            "decode_held_pixels_limit": self.budget.limit,
        }


def device_memory(device: torch.device) -> dict[str, int]:
    """Bytes by kind; none where the device shares the process's own, or does not tell."""
    if device.type != "cuda":
        return {}
    try:
        free, total = torch.cuda.mem_get_info(device)
        return {
            "free": free,
            "total": total,
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
        }
    except RuntimeError:  # a broken device must not hide everything else
        return {}


def _load(model: Loaded) -> dict[str, int]:
    batcher = model.batcher
    load = batcher.load()
    return {
        "device_images": load.images,
        "device_waiting_images": load.waiting,
        "device_queued_units": load.units,
        "device_running_passes": load.passes,
        "device_lanes": batcher.engine.lanes,
        "device_capacity_units": batcher.capacity,
    }


def _info(model: Loaded) -> tuple[str, ...]:
    manifest, engine = model.manifest, model.batcher.engine
    digest = f"sha256:{manifest.weights.sha256}" if manifest.weights else ""
    return (
        manifest.name,
        digest,
        manifest.architecture,
        engine.name,
        engine.precision,
        str(engine.device),
    )
