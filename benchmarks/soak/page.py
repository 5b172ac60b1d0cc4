"""What was seen, as a page of the documentation."""

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.serving.docs import DPI, put_section
from benchmarks.serving.table import Table, number
from benchmarks.soak.clients import Tally
from benchmarks.soak.vitals import Vitals, settled_growth
from models.atomic import write_bytes


def results(tally: Tally, seen: list[Vitals], *, minutes: float, clients: int) -> list[Table]:
    asked = Table(
        f"{minutes:g} minutes, {clients} clients, models changed meanwhile",
        ("what", "times", "not as it must be"),
    )
    for name in sorted(tally.done):
        times, failed = tally.done[name], tally.failed[name]
        asked.add(name.replace("_", " "), str(times), str(failed), times=times, failed=failed)
    asked.add("together", str(sum(tally.done.values())), str(sum(tally.failed.values())))
    asked.notes = list(tally.failures)
    memory = Table("The process", ("minute", "resident MiB", "open files", "threads"))
    step = max(1, len(seen) // 10)
    for entry in [*seen[::step], seen[-1]]:
        cells = (number(entry.minutes), number(entry.mib, 0), str(entry.files), str(entry.threads))
        memory.add(*cells)
    grown = settled_growth(seen)
    memory.records.append({"growth": grown})
    memory.notes.append(
        "A straight line through the memory after the first tenth of the time rises by "
        f"{100 * grown:+.1f} %."
    )
    return [asked, memory]


def write_page(base: Path, tables: list[Table], seen: list[Vitals], machine: str) -> None:
    """`base`.md, between its comments, and `base`.png."""
    page = base.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else "# Soak\n"
    chart = base.with_suffix(".png")
    _draw(seen).savefig(chart, dpi=DPI)
    parts = [machine, *(table.to_markdown() for table in tables), f"![memory]({chart.name})"]
    write_bytes(page, put_section(text, "soak", "\n\n".join(parts)).encode())


def _draw(seen: list[Vitals]) -> Figure:
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([entry.minutes for entry in seen], [entry.mib for entry in seen], color="#0072b2")
    axes.set(xlabel="minutes", ylabel="resident MiB")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
