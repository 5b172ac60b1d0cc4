"""How long and how often everything is measured."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.serving.machine import cores


@dataclass(frozen=True)
class Plan:
    """Counts and seconds of a run; `quick` shows that everything works and measures nothing."""

    rounds: int = 3
    warmup_s: float = 4.0
    seconds: float = 20.0
    clients: int = 16
    client_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    throughput_turns: int = 4  # that `seconds` of the service are divided into
    bare_seconds: float = 2.0
    batches: tuple[int, ...] = (1, 2, 4)
    streams: tuple[int, ...] = tuple(sorted({1, 2, cores()}))
    gpu_seconds: float = 8.0
    gpu_batches: tuple[int, ...] = (16, 64)
    gpu_services: tuple[int, ...] = (1, 8)
    gpu_requests: tuple[tuple[int, int], ...] = ((1, 16), (16, 8))  # images of each, and clients
    gpu_threads: int = 4  # of a service, at least: they wait for Python's lock as well
    codec_repeats: int = 50
    latency_turns: int = 10
    latency_requests: int = 20  # in a turn
    starts: int = 3
    memory_requests: int = 5000
    memory_step: int = 250
    swaps: int = 50
    swap_step: int = 5
    swap_requests: int = 200  # answered during so many swaps
    large_side: int = 10_000  # of the upload whose peak is measured, in pixels
    sides: tuple[tuple[int, int], ...] = (
        (625, 400),
        (1250, 800),
        (2500, 1600),
        (5000, 3200),
        (10_000, 10_000),
    )
    size_repeats: int = 3
    overload_seconds: float = 60.0
    mask_sizes: tuple[tuple[int, int], ...] = ((640, 427), (4000, 3000), (4000, 4000))
    pictures: int = 50
    accuracy_images: int = 1 << 30
    start_timeout_s: float = 600.0

    @classmethod
    def quick(cls) -> "Plan":
        return cls(
            rounds=1,
            warmup_s=0.5,
            seconds=2.0,
            clients=4,
            client_steps=(1, 4),
            throughput_turns=2,
            bare_seconds=0.1,
            batches=(1,),
            streams=(1,),
            gpu_seconds=2.0,
            gpu_batches=(2,),
            gpu_services=(1, 2),
            gpu_requests=((1, 4), (2, 2)),
            codec_repeats=2,
            latency_turns=2,
            latency_requests=3,
            starts=1,
            memory_requests=84,
            memory_step=42,
            swaps=4,
            swap_step=2,
            swap_requests=20,
            large_side=1000,
            sides=((625, 400), (1250, 800)),
            size_repeats=1,
            overload_seconds=2.0,
            mask_sizes=((640, 427),),
            pictures=4,
            accuracy_images=4,
            start_timeout_s=180.0,
        )

    def with_rounds(self, rounds: int) -> "Plan":
        return replace(self, rounds=rounds, size_repeats=rounds, starts=rounds)


@dataclass(frozen=True)
class Options:
    """What the command line chose beside the plan: who is measured, and with what."""

    work: Path  # a folder for everything that is made, gone afterwards
    images: Path | None
    data: Path | None
    split: str
    carried: Path
    precisions: tuple[str, ...]
    engine: str | None
    device: str
    peers: tuple[str, ...]
    peers_python: Path
    compiled: bool
    plan: Plan = field(default_factory=Plan)
