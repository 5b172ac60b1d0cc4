"""Where a network runs, and what the hardware there is good at."""

import ctypes
import math
import os
import re
import sys
import textwrap
from pathlib import Path

import torch

from models.errors import ModelError

MAX_REASON = 200  # letters
_GIBIBYTE = 1 << 30
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # of the container that this process runs in
# malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def choose_device(name: str) -> torch.device:
    """CUDA, then Apple's MPS, then the CPU for "auto"; another name must be usable here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ModelError(
            f"device {name!r} cannot be used on this machine: {_first_sentence(str(error))}"
        ) from error
    if device.type == "meta":
        raise ModelError(f"device {name!r} cannot be used on this machine: it holds no data")
    return device


def _first_sentence(text: str) -> str:
    """Where a backend is absent, torch adds a page on how it came to look for it."""
    sentence = re.split(r"(?<=[.!?])\s|\n", text, maxsplit=1)[0]
    return textwrap.shorten(sentence, MAX_REASON, placeholder=" …")


def usable_cores() -> int:
    """Those that this process may run on; in a container no more than its share of processor time
    (cgroup v2, `cpu.max`), rounded up."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, _quota(CPU_MAX) or cores))


def _quota(file: Path) -> int | None:
    """Cores by "quota period" in microseconds; None where there is no limit."""
    try:
        quota, period = file.read_text().split()
        return None if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return None


def exact_device(device: torch.device) -> torch.device:
    """Where what was computed on `device` can be summed in float64, which MPS does not have."""
    return torch.device("cpu") if device.type == "mps" else device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is done by the hardware rather than emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # absent from older releases of torch
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def use_bf16(device: torch.device, precision: str) -> bool:
    """What `precision` asks for; bfloat16 for "auto" where the hardware has it."""
    return precision == "bfloat16" or (precision == "auto" and has_fast_bf16(device))


def keep_freed_memory() -> None:
    """Tells glibc to reuse large freed blocks instead of returning them to the kernel.

    Activations of many megabytes are freed and allocated again in every step; mapping and
    zeroing their pages anew costs a quarter of a training step on the CPU. No-op elsewhere.
    """
    _mallopt(_M_MMAP_THRESHOLD, _GIBIBYTE)
    _mallopt(_M_TRIM_THRESHOLD, 2 * _GIBIBYTE - 1)
    _mallopt(_M_TOP_PAD, 64 << 20)


def share_freed_memory() -> None:
    """Tells glibc to let threads share their heaps: by default there are eight for each core, and
    what one thread frees of an image is of no use to the others. No-op elsewhere."""
    _mallopt(_M_ARENA_MAX, max(2, usable_cores() // 4))


def _mallopt(parameter: int, value: int) -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
    if mallopt is not None:
        mallopt(parameter, value)
