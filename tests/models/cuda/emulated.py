"""A GPU's kernel compiled for the CPU, and PyTorch's CPU tensors as its device."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

HOST = Path(__file__).with_name("on_cpu.cpp")


class EmulatedKernel:
    """Stands where `cuda_segment` has the kernel of a GPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._run: Any = library.run
        self.blocks: list[tuple[int, int]] = []

    @classmethod
    def build(cls, source: Path, folder: Path) -> "EmulatedKernel":
        """By the C++ compiler `c++`; FileNotFoundError where there is none."""
        made = folder / "kernel.so"
        options = ["-std=c++20", "-O2", "-shared", "-fPIC", "-pthread", f"-I{source.parent}"]
        built = subprocess.run(
            ["c++", *options, HOST, "-o", made], capture_output=True, text=True, check=False
        )
        assert built.returncode == 0, built.stderr
        return cls(ctypes.CDLL(str(made)))

    def launch(self, blocks: tuple[int, int], *arguments: int) -> None:
        self.blocks.append(blocks)
        self._run(*map(ctypes.c_uint, blocks), *map(ctypes.c_longlong, arguments))
