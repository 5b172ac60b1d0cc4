"""The processor's features decide which precision is fast: they are found where they are."""

import re
import sys
from pathlib import Path

import pytest
import torch

from service.engines import processor

INT8 = {"amx_int8": "AMX-INT8", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI"}
BF16 = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16"}


def give(monkeypatch: pytest.MonkeyPatch, *capabilities: str) -> None:
    """To the processor: these and no other."""
    found = {"architecture": "x86_64", "avx2": True, **dict.fromkeys(INT8 | BF16, False)}
    found |= dict.fromkeys(capabilities, True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)


@pytest.mark.parametrize(("capability", "name"), [*INT8.items(), *BF16.items()])
def test_each_is_found_by_itself(
    capability: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, capability)
    assert processor.features() == [name]
    assert processor.int8_feature() == (name if capability in INT8 else None)
    assert processor.bf16_features() == ([name] if capability in BF16 else [])


def test_the_fastest_for_int8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, *INT8, *BF16)
    assert processor.int8_feature() == "AMX-INT8"
    assert processor.bf16_features() == ["AMX-BF16", "AVX512-BF16"]


def test_a_processor_without_any_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch)
    assert processor.features() == []
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert processor.features() == []
    assert processor.int8_feature() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_processor_has_what_the_system_says() -> None:
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if flags is None or not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("no x86 processor, or a PyTorch that does not tell")
    present = flags[1].split()
    named = {name for flag, name in (INT8 | BF16).items() if flag in present}
    assert named <= set(processor.features())
