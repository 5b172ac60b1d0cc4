"""Gauges that are read when they are asked for."""

from dataclasses import dataclass

import pytest
import torch
from prometheus_client import CollectorRegistry, generate_latest

from models.manifest import Manifest
from service.admission import Admission
from service.batcher import Batcher
from service.body import UploadMemory
from service.budget import PixelBudget
from service.telemetry.moment import Loaded, Moment
from tests.service.colours import colour_manifest
from tests.service.scrape import Series, parsed, value


class Device:
    name, precision, lanes = "stand-in", "bfloat16", 2

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    def warm_up(self, count: int) -> None:
        raise AssertionError

    def forget(self, count: int) -> None:
        raise AssertionError

    def run(self, pixels: torch.Tensor, *, alone: bool) -> torch.Tensor:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


@dataclass(frozen=True)
class Model:
    manifest: Manifest
    batcher: Batcher


def model(name: str, device: Device | None = None) -> Model:
    return Model(colour_manifest(name=name), Batcher(device or Device()))


def scrape(models: list[Loaded], *, ready: bool = True) -> Series:
    registry, admission, uploads = CollectorRegistry(), Admission(lambda: 7), UploadMemory(500)
    admission.inside = 2
    uploads.take(40)
    registry.register(
        Moment(
            ready=lambda: ready,
            keys_in_order=lambda: True,
            in_flight=lambda: 3,
            admission=admission,
            uploads=uploads,
            budget=PixelBudget(1000),
            models=lambda: models,
            draining=lambda: 1,
        )
    )
    return parsed(generate_latest(registry).decode())


def test_what_waits_and_what_may() -> None:
    found = model("a")
    with found.batcher.flow() as flow, found.batcher.flow():
        flow.submit(torch.zeros(3, 2, 2, dtype=torch.uint8))
        series = scrape([found])
    assert value(series, "device_images", model="a") == 2
    assert value(series, "device_waiting_images", model="a") == 2
    assert value(series, "device_queued_units", model="a") == 1
    assert (value(series, "places_taken"), value(series, "places_limit")) == (2, 7)
    assert value(series, "upload_held_bytes") == 40
    assert value(series, "upload_held_bytes_limit") == 500
    assert value(series, "requests_in_flight") == 3
    assert value(series, "decode_held_pixels_limit") == 1750


@pytest.mark.parametrize("ready", [True, False])
def test_readiness(ready: bool) -> None:
    assert value(scrape([], ready=ready), "ready") == int(ready)


def test_namesakes_are_one_series() -> None:
    old, new = model("a"), model("a")
    with old.batcher.flow(), new.batcher.flow():
        series = scrape([old, new, model("b")])  # which fails where one is there twice
    assert value(series, "device_images", model="a") == 2
    assert value(series, "device_images", model="b") == 0


def test_the_model_says_what_runs_it() -> None:
    [(labels, told)] = [
        (dict(labels), told)
        for (name, labels), told in scrape([model("a")]).items()
        if name == "maskwright_model_info"
    ]
    assert told == 1
    assert (labels["model"], labels["engine"], labels["precision"]) == ("a", "stand-in", "bfloat16")
    assert (labels["architecture"], labels["device"]) == ("unet", "cpu")


def test_the_memory_of_a_gpu_once_for_all_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30, 100))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 60)
    series = scrape([model("a", Device("cuda:0")), model("b", Device("cuda:0"))])
    kinds = {"free": 30, "total": 100, "allocated": 50, "reserved": 60}
    for kind, size in kinds.items():
        assert value(series, "device_memory_bytes", device="cuda:0", kind=kind) == size


def test_a_broken_device_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> tuple[int, int]:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    series = scrape([model("a", Device("cuda:0"))])
    assert value(series, "device_images", model="a") == 0
