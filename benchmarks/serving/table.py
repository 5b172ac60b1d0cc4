"""A scenario's result: a table for people, figures for programs, and perhaps a chart."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from matplotlib.figure import Figure
from rich.table import Table as RichTable

MIN_WIDTH = 72  # of a table on the terminal: narrower ones would break their titles


@dataclass
class Table:
    """`rows` of text under `columns`; `notes` say how it was measured; `records` are the figures
    themselves; `chart` draws them."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: list[dict[str, object]] = field(default_factory=list)
    chart: Callable[[], Figure] | None = None

    def add(self, *cells: str, **record: object) -> None:
        """A row, filled up with empty cells, and its record."""
        self.rows.append((*cells, *[""] * (len(self.columns) - len(cells))))
        if record:
            self.records.append(record)

    def for_terminal(self) -> RichTable:
        caption = "\n".join(self.notes) or None
        made = RichTable(title=self.title, caption=caption, min_width=MIN_WIDTH)
        for index, column in enumerate(self.columns):
            made.add_column(column, justify="right" if index else "left")
        for row in self.rows:
            made.add_row(*row)
        return made

    def to_markdown(self) -> str:
        lines = [
            f"| {' | '.join(self.columns)} |",
            f"|---|{'---:|' * (len(self.columns) - 1)}",
            *(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in self.rows),
        ]
        return "\n".join([f"**{self.title}**", "", *lines, "", *self.notes])


def number(value: float | None, digits: int = 1) -> str:
    """A dash for what is not known."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"  # noqa: RUF001


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
