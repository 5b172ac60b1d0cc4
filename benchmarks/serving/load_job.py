"""What the load generator is asked, what it answers, and its start in a process of its own."""

from dataclasses import asdict, dataclass, field

from benchmarks.serving.figures import percentile
from benchmarks.serving.own_process import ask

START_S = 60.0


@dataclass(frozen=True)
class Job:
    """`requests` are (file of a request's bytes, mask width, mask height), sent in turn.

    Measured is what is answered in `seconds` after the warm-up, or, where `count` is given, the
    time that so many requests take. After `timeout_s` without its end the job is given up. With
    a `rate` there are no clients: so many requests are sent a second, whatever becomes of them.
    Each is for so many `images`, all of the one size; more than one are answered as JSON.
    """

    port: int
    requests: list[tuple[str, int, int]]
    clients: int
    warmup_s: float = 0.0
    seconds: float = 0.0
    count: int = 0
    timeout_s: float = 600.0
    rate: float = 0.0
    images: int = 1


@dataclass
class LoadResult:
    """`latencies_ms` of the good answers, in the order of their arrival; `statuses` of all; a
    few `failures` in words. `cpu_s` is what the generator itself took of the processor."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    verified: int = 0
    failures: list[str] = field(default_factory=list)

    @classmethod
    def joined(cls, results: "list[LoadResult]") -> "LoadResult":
        """Of one after the other."""
        whole = cls()
        for result in results:
            whole.seconds += result.seconds
            whole.cpu_s += result.cpu_s
            whole.latencies_ms += result.latencies_ms
            whole.broken += result.broken
            whole.verified += result.verified
            whole.failures += result.failures
            for status, count in result.statuses.items():
                whole.statuses[status] = whole.statuses.get(status, 0) + count
        return whole

    @property
    def per_second(self) -> float:
        return len(self.latencies_ms) / self.seconds if self.seconds > 0 else 0.0

    @property
    def p50_ms(self) -> float:
        return percentile(self.latencies_ms, 0.5)

    @property
    def p99_ms(self) -> float:
        return percentile(self.latencies_ms, 0.99)

    @property
    def failed(self) -> int:
        """Answers that were no complete mask of the right size."""
        return self.broken + sum(n for status, n in self.statuses.items() if status != "200")


def run_load(job: Job) -> LoadResult:
    """Starts the generator, waits for it and reads its figures."""
    limit = job.timeout_s + job.warmup_s + job.seconds + START_S
    return LoadResult(**ask("benchmarks.serving.load", asdict(job), timeout_s=limit))
