"""The network alone, as fast as each engine runs it: no softmax, no resize, no server.

`python -m benchmarks.serving.bare` does the measuring, in a process of its own.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.serving.checkpoints import channels_last, network_inputs
from benchmarks.serving.images import listed
from benchmarks.serving.machine import cores
from benchmarks.serving.openvino_loop import OpenVinoLoop
from benchmarks.serving.own_process import answer, conversation
from models import load_checkpoint
from models.devices import has_fast_bf16, keep_freed_memory
from models.folding import folded
from trainer.errors import TrainerError

TIMEOUT_S = 1800.0
WARM_UPS = 3
LEAST_PASSES = 3
Pass = Callable[[], int]  # runs some batches, returns how many images they held


@dataclass(frozen=True)
class Setup:
    """One way to run the network: `streams` passes at a time, `batch` images each; `recorded` as a
    CUDA graph, with batch norm in the convolutions."""

    engine: str
    precision: str
    batch: int = 1
    streams: int = 1
    compiled: bool = False
    recorded: bool = False

    @property
    def name(self) -> str:
        way = " compiled" if self.compiled else " recorded" if self.recorded else ""
        return f"{self.engine}{way}, {self.precision}"


@dataclass(frozen=True)
class BareTime:
    """Milliseconds per image, on the clock and of all processors together, or the reason why there
    are none."""

    setup: Setup
    ms: float | None
    cpu_ms: float | None = None
    reason: str | None = None


def all_setups(
    *, batches: tuple[int, ...], streams: tuple[int, ...] = (), compiled: bool
) -> list[Setup]:
    """Every engine and precision over batches; OpenVINO, which is for the CPU, over streams too."""
    torch_names = ["float32", "bfloat16"]
    setups = [Setup("torch", p, b) for p, b in product(torch_names, batches)]
    if compiled:
        setups += [Setup("torch", "bfloat16", b, compiled=True) for b in batches]
    names = ["float32", "bfloat16", "int8"]
    setups += [Setup("openvino", p, b, s) for p, b, s in product(names, batches, streams)]
    return setups


def fastest(times: list[BareTime], precisions: tuple[str, ...], *, alone: bool = False) -> BareTime:
    """The best of these precisions; with `alone` of those that run one image at a time."""
    found = [
        entry
        for entry in times
        if entry.ms is not None
        and entry.setup.precision in precisions
        and not (alone and (entry.setup.batch, entry.setup.streams) != (1, 1))
    ]
    if not found:
        return BareTime(Setup("no engine", precisions[-1]), None, reason="no engine ran")
    return min(found, key=lambda entry: entry.ms or 0.0)


@contextmanager
def bare_process(
    checkpoint: Path, pictures: Path, *, device: str = "cpu"
) -> Iterator[Callable[[list[Setup], float], list[BareTime]]]:
    """To be asked for each of some setups for about so many seconds, again and again: the setup
    that was measured last stays ready. `pictures` is a folder of photographs."""
    names = {"checkpoint": str(checkpoint), "pictures": str(pictures), "device": device}
    with conversation("benchmarks.serving.bare", timeout_s=TIMEOUT_S) as put:

        def measure(setups: list[Setup], seconds: float) -> list[BareTime]:
            question = {"setups": [asdict(setup) for setup in setups], "seconds": seconds}
            rows = put({**names, **question})
            return [BareTime(**{**row, "setup": Setup(**row["setup"])}) for row in rows]

        yield measure


def measure_bare(
    checkpoint: Path, pictures: Path, setups: list[Setup], *, seconds: float, device: str = "cpu"
) -> list[BareTime]:
    """Each setup once, in a process for this alone."""
    with bare_process(checkpoint, pictures, device=device) as measure:
        return measure(setups, seconds)


class Responder:
    """Of the process: questions of one checkpoint find it loaded."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()

    def __call__(self, question: dict[str, Any]) -> list[dict[str, Any]]:
        names = (question["checkpoint"], question["pictures"], question["device"])
        if names != self._names:
            self._bench = _Bench(Path(names[0]), Path(names[1]), names[2])
            self._names = names
        setups = (Setup(**entry) for entry in question["setups"])
        return [asdict(self._timed(setup, question["seconds"])) for setup in setups]

    def _timed(self, setup: Setup, seconds: float) -> BareTime:
        try:
            return BareTime(setup, *milliseconds(self._bench.prepared(setup), seconds))
        except TrainerError:
            return BareTime(setup, None, reason=f"not installed: {setup.engine}")


def milliseconds(run: Pass, seconds: float) -> tuple[float, float]:
    """Per image, on the clock and of the processors, over as many passes as fit into `seconds`."""
    for _ in range(WARM_UPS):
        run()
    images = passes = 0
    began, cpu = time.perf_counter(), time.process_time()
    while passes < LEAST_PASSES or time.perf_counter() - began < seconds:
        images += run()
        passes += 1
    took, cpu_took = time.perf_counter() - began, time.process_time() - cpu
    return took * 1000 / images, cpu_took * 1000 / images


class _Bench:
    """The network on each engine, prepared once for each precision."""

    def __init__(self, checkpoint: Path, pictures: Path, device: str) -> None:
        self.device = torch.device(device)
        self.checkpoint = load_checkpoint(checkpoint)
        self.inputs = network_inputs(listed(pictures), self.checkpoint.manifest.input)
        cache = checkpoint.with_name(f"{checkpoint.stem}-int8.xml")
        self.openvino = OpenVinoLoop(
            self.checkpoint.network, self.inputs, cache, bf16=has_fast_bf16(torch.device("cpu"))
        )
        self._ready: dict[Setup, Pass] = {}

    def prepared(self, setup: Setup) -> Pass:
        """Only the last stays: all together they would fill the memory."""
        if setup not in self._ready:
            self._ready.clear()
            self._ready[setup] = self._prepare(setup)
        return self._ready[setup]

    def _prepare(self, setup: Setup) -> Pass:
        images = self._batch(setup.batch)
        if setup.engine == "openvino":
            return self.openvino.prepare(images, setup.precision, setup.streams)
        return self._torch(images, setup)

    def _batch(self, size: int) -> Tensor:
        wanted = torch.arange(size) % len(self.inputs)
        return self.inputs[wanted].contiguous(memory_format=torch.channels_last)

    def _torch(self, images: Tensor, setup: Setup) -> Pass:
        # weights in bfloat16, not cast anew in every pass as autocast does
        dtype = torch.bfloat16 if setup.precision == "bfloat16" else torch.float32
        network = channels_last(self.checkpoint, self.device, dtype)
        if setup.recorded:
            network = folded(network)
        forward: Callable[[Tensor], Tensor] = torch.compile(network) if setup.compiled else network
        images = images.to(self.device, dtype)
        one_pass = _recorded(forward, images) if setup.recorded else partial(forward, images)

        @torch.inference_mode()
        def run() -> int:
            one_pass()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return len(images)

        return run


@torch.inference_mode()
def _recorded(forward: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
    """The pass over these images as a CUDA graph."""
    stream = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            forward(images)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        answer = forward(images)

    def replay() -> Tensor:
        graph.replay()
        return answer

    return replay


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(cores())
    answer(Responder())
