"""Where the figures come from: the processor, its cores, the versions of what was measured."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from models.devices import has_fast_bf16, usable_cores

PACKAGES = (
    "torch",
    "torchvision",
    "openvino",
    "nncf",
    "pillow",
    "simplejpeg",
    "isal",
    "fastapi",
    "uvicorn",
)
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def cores() -> int:
    """Processors that this process may use."""
    return usable_cores()


def best_float(device: str) -> str:
    """The precision that the service is expected to take where nothing was calibrated."""
    return "bfloat16" if has_fast_bf16(torch.device(device)) else "float32"


def machine() -> dict[str, str]:
    """A line for each fact; versions of packages that are not installed are left out."""
    facts = {
        "processor": _processor(),
        "cores": str(cores()),
        "features": ", ".join(_features()) or "none of those asked for",
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _features() -> list[str]:
    flags = _cpuinfo("flags").split()
    return [name for name in FEATURES if name in flags]
