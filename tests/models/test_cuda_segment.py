"""The kernel for NVIDIA's GPUs, as far as can be said without one; `tests/test_accelerator.py` says
the rest."""

import logging
import sys

import pytest
import torch

from models import cuda_segment
from models.cuda_segment import SOURCE, can_segment


@pytest.fixture(autouse=True)
def _not_compiled_before() -> None:
    cuda_segment._compile.cache_clear()


@pytest.mark.parametrize("capability", ["75", "80", "86", "90", "100"])
def test_the_source_compiles(capability: str) -> None:
    core = pytest.importorskip("cuda.core")
    options = core.ProgramOptions(std="c++17", arch=f"sm_{capability}")
    program = core.Program(SOURCE.read_text(encoding="utf-8"), "c++", options)
    assert len(program.compile("cubin").code) > 1000


def test_its_blocks_are_those_that_are_started() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    assert f"constexpr int THREADS = {cuda_segment.THREADS};" in source
    assert f"constexpr int ROWS = {cuda_segment.ROWS};" in source


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_do_without(device: str) -> None:
    assert not can_segment(torch.device(device))


def test_so_does_a_gpu_without_the_package(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with caplog.at_level(logging.INFO):
        assert not can_segment(torch.device("cuda"))
        assert not can_segment(torch.device("cuda", 0))
    assert [record.message for record in caplog.records] == [
        "cuda-core would make masks faster; it is not installed"
    ]


def test_so_does_a_gpu_whose_driver_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(index: int) -> None:
        raise RuntimeError("CUDA_ERROR_NO_DEVICE")

    monkeypatch.setattr(cuda_segment, "_Kernel", fail)
    assert not can_segment(torch.device("cuda", 3))
    assert "the kernel cannot be used: CUDA_ERROR_NO_DEVICE" in caplog.text
