"""What came of the cases so far."""

from collections import Counter
from dataclasses import dataclass, field

from rich.table import Table

from tests.fuzz.verdict import Outcome


@dataclass
class Record:
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    slowest: Outcome | None = None
    largest: Outcome | None = None
    failures: list[Outcome] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.answers.total()

    def add(self, outcome: Outcome) -> None:
        self.answers[outcome.status, outcome.kind] += 1
        if self.slowest is None or outcome.cpu_s > self.slowest.cpu_s:
            self.slowest = outcome
        if self.largest is None or (outcome.memory or 0) > (self.largest.memory or 0):
            self.largest = outcome
        if outcome.failure is not None:
            self.failures.append(outcome)

    def table(self) -> Table:
        table = Table("status", "answer", "cases")
        for (status, kind), count in sorted(self.answers.items()):
            table.add_row(str(status), kind, f"{count:,}")
        return table

    def lines(self) -> list[str]:
        """The extremes."""
        found = [f"{self.cases:,} cases, {len(self.failures)} failures"]
        if self.slowest is not None:
            found.append(f"slowest: case {self.slowest.number}, {self.slowest.cpu_s:.2f} s of CPU")
        if self.largest is not None and self.largest.memory is not None:
            mebibytes = self.largest.memory / 2**20
            found.append(f"most memory: case {self.largest.number}, {mebibytes:.0f} MiB more")
        return found
