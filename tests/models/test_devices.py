"""Choosing a device, and what it is good at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import ModelError, devices
from models.devices import choose_device, exact_device, has_fast_bf16, usable_cores


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_prefers_cuda_then_mps_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == expected


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:99", "hpu", "privateuseone"])
def test_a_device_that_cannot_be_used_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=f"device {name!r} cannot be used on this machine"):
        choose_device(name)


@pytest.mark.parametrize(
    ("said", "repeated"),
    [
        ("No such backend. This could be because of the build. See x.y", "No such backend."),
        ("No such backend\nException raised from f at g.cpp:1", "No such backend"),
        ("word " * 100, ("word " * 39) + "…"),
    ],
)
def test_of_what_torch_says_the_first_sentence_is_repeated(
    said: str, repeated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, device: torch.device) -> None:
        raise NotImplementedError(said)

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(ModelError) as caught:
        choose_device("mps")
    assert str(caught.value) == f"device 'mps' cannot be used on this machine: {repeated}"


def test_a_device_that_holds_no_data_cannot_be_used() -> None:
    with pytest.raises(ModelError, match="'meta'"):
        choose_device("meta")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512": True}, False),
        ({}, False),
    ],
)
def test_the_cpus_bf16_is_fast_where_it_has_the_instructions(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bf16(torch.device("cpu")) is expected


def test_an_older_torch_without_capabilities_counts_as_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_fast_bf16(torch.device("cpu")) is False


@pytest.mark.parametrize("native", [True, False])
def test_cudas_bf16_is_fast_where_it_is_not_emulated(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert has_fast_bf16(torch.device("cuda")) is native


def test_other_devices_bf16_is_not_taken_for_fast() -> None:
    assert has_fast_bf16(torch.device("mps")) is False


COUNT_PAGE_FAULTS = """
import resource, sys
from models.devices import keep_freed_memory
import torch
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(6):
    torch.ones(40 << 20, dtype=torch.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(40 << 20, dtype=torch.uint8)
sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has these settings")
def test_freed_memory_is_used_again_rather_than_mapped_anew() -> None:
    def faults(mode: str) -> int:
        command = [sys.executable, "-c", COUNT_PAGE_FAULTS, mode]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    usual = faults("usual")
    if usual < 1000:
        pytest.skip("this C library keeps freed memory by itself")
    assert faults("keep") < usual / 2


COUNT_HEAPS = """
import sys, threading
from pathlib import Path
from models.devices import share_freed_memory
if sys.argv[1] == "share":
    share_freed_memory()
block = threading.Barrier(12)
kept = []
def work():
    kept.append([bytearray(1000) for _ in range(100)])
    block.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
# a heap of a thread is a mapping of 64 MiB, of which most may not be touched yet
lines = Path("/proc/self/maps").read_text().splitlines()
sizes = [int(b, 16) - int(a, 16) for a, b in (line.split()[0].split("-") for line in lines)]
sys.stdout.write(str(sum(60 << 20 < size <= 64 << 20 for size in sizes)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has these settings")
def test_threads_share_their_heaps() -> None:
    def heaps(mode: str) -> int:
        command = [sys.executable, "-c", COUNT_HEAPS, mode]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    usual = heaps("usual")
    if usual < 6:
        pytest.skip("this C library has no heaps of threads")
    assert heaps("share") <= usual - 3


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000", None),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("", None),
        ("nonsense", None),
    ],
)
def test_a_containers_share_of_the_processor_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, cores: int | None
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(content)
    monkeypatch.setattr(devices, "CPU_MAX", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert usable_cores() == (cores or 16)


def test_without_containers_every_core_is_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "CPU_MAX", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert usable_cores() == 2


def test_sums_are_made_where_there_is_float64() -> None:
    assert exact_device(torch.device("mps")) == torch.device("cpu")
    assert exact_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert exact_device(torch.device("cpu")) == torch.device("cpu")
