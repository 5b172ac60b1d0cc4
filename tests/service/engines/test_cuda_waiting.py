"""Threads that wait for a GPU are told to sleep, where there is one."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import ModuleType
from typing import Any

import pytest
import torch

from models import Checkpoint
from service.engines import choose
from service.engines.choose import Wishes, choose_engine
from service.engines.cuda_waiting import let_threads_sleep, recording, wait_for_all
from service.engines.torch_engine import TorchEngine
from tests.service.colours import colour_manifest, colour_network

BLOCKING = 4  # CU_CTX_SCHED_BLOCKING_SYNC, by CUDA's driver API


class Driver(ModuleType):
    """The bindings' `driver`: each call answers with its error first."""

    class CUctx_flags:  # noqa: N801 - as CUDA has it
        CU_CTX_SCHED_BLOCKING_SYNC = BLOCKING

    def __init__(self, error: int = 0) -> None:
        super().__init__("cuda.bindings.driver")
        self.error = error
        self.set: list[tuple[Any, int]] = []

    def cuInit(self, flags: int) -> tuple[int]:  # noqa: N802
        return (0,)

    def cuDeviceGet(self, ordinal: int) -> tuple[int, str]:  # noqa: N802
        return 0, f"gpu {ordinal}"

    def cuDevicePrimaryCtxSetFlags(self, gpu: Any, flags: int) -> tuple[int]:  # noqa: N802
        self.set.append((gpu, flags))
        return (self.error,)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made, package = Driver(), ModuleType("cuda.bindings")
    package.driver = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    return made


@pytest.mark.parametrize(("name", "gpu"), [("cuda", "gpu 0"), ("cuda:3", "gpu 3")])
def test_the_gpu_s_own_are(name: str, gpu: str, driver: Driver) -> None:
    let_threads_sleep(torch.device(name))
    assert driver.set == [(gpu, BLOCKING)]


def test_a_driver_that_refuses_stops_nobody(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.error = 708
    with caplog.at_level(logging.INFO):
        let_threads_sleep(torch.device("cuda", 0))
    assert "wait for cuda:0 keep a core busy each: 708" in caplog.text


def test_nor_does_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with caplog.at_level(logging.INFO):
        let_threads_sleep(torch.device("cuda"))
    assert "keep a core busy" in caplog.text


def test_before_an_engine_uses_the_gpu(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def make(checkpoint: Checkpoint, *, device: torch.device, **options: Any) -> TorchEngine:
        told.append(len(driver.set))
        return TorchEngine(checkpoint, device=torch.device("cpu"), **options)

    checkpoint = Checkpoint(colour_network(), colour_manifest())
    with monkeypatch.context() as patch:
        patch.setattr(choose, "choose_device", lambda wish: torch.device("cuda", 0))
        patch.setattr(choose, "CudaEngine", make)
        choose_engine(checkpoint, Wishes(device="cuda", precision="float32"))
    assert told == [1]
    choose_engine(checkpoint, Wishes(device="cpu", engine="torch", precision="float32"))
    assert len(driver.set) == 1, "the CPU is not waited for"


def test_nobody_waits_for_a_whole_gpu_while_a_pass_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = Event()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.set())
    with ThreadPoolExecutor(1) as threads:
        with recording:
            waiting = threads.submit(wait_for_all, torch.device("cuda"))
            assert not waited.wait(0.05)
        waiting.result(30)
    assert waited.is_set()
