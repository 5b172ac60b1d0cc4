"""Charts, in colours that colour-blind readers tell apart (Okabe and Ito, 2008)."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, THEIRS, LIMIT = "#0072b2", "#e69f00", "#000000"
LINES = ("#0072b2", "#d55e00", "#009e73")
INCHES = 4.2


def draw_bars(title: str, names: list[str], values: list[float], ours: list[bool]) -> Figure:
    """Requests a second, the fastest on top; `ours` says which bars are the service's."""
    order = sorted(range(len(names)), key=lambda index: values[index])
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    colors = [OURS if ours[index] else THEIRS for index in order]
    bars = axes.barh(range(len(order)), [values[index] for index in order], color=colors)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_yticks(range(len(order)), [names[index] for index in order])
    axes.set(xlabel="requests per second", title=title)
    axes.margins(x=0.1)
    _plain(axes)
    return figure


def draw_scaling(
    clients: Sequence[float],
    per_second: Sequence[float],
    p50_ms: Sequence[float],
    p99_ms: Sequence[float],
) -> Figure:
    """Throughput and latency against the number of clients, side by side."""
    figure = Figure(figsize=(2.2 * INCHES, INCHES), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(clients, per_second, "o-", color=LINES[0])
    left.set(xlabel="clients", ylabel="requests per second")
    right.plot(clients, p50_ms, "o-", color=LINES[0], label="p50")
    right.plot(clients, p99_ms, "s--", color=LINES[1], label="p99")
    right.set(xlabel="clients", ylabel="milliseconds")
    right.legend(frameon=False)
    _from_zero(left, per_second)
    _from_zero(right, [*p50_ms, *p99_ms])
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(clients), [f"{value:g}" for value in clients])
        _plain(axes)
    return figure


def draw_sizes(megapixels: Sequence[float], seconds_per_megapixel: Sequence[float]) -> Figure:
    """What a megapixel costs in images of different size; flat is good."""
    figure = Figure(figsize=(1.4 * INCHES, INCHES), layout="constrained")
    axes = figure.subplots()
    axes.plot(megapixels, seconds_per_megapixel, "o-", color=LINES[0])
    axes.set_xscale("log")
    axes.set_xticks(list(megapixels), [f"{value:g}" for value in megapixels])
    axes.minorticks_off()
    _from_zero(axes, seconds_per_megapixel)
    axes.set(xlabel="megapixels", ylabel="seconds per megapixel")
    _plain(axes)
    return figure


def draw_overload(
    rate: Sequence[float],
    per_second: Sequence[float],
    p99_ms: Sequence[float],
    p99_at_capacity_ms: float,
) -> Figure:
    """What is answered, and how late, when ever more is asked."""
    figure = Figure(figsize=(2.2 * INCHES, INCHES), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(rate, per_second, "o-", color=LINES[0])
    left.set(xlabel="requests per second", ylabel="answered with a mask, per second")
    right.plot(rate, p99_ms, "s--", color=LINES[1], label="p99 of the answered")
    right.axhline(p99_at_capacity_ms, color=LIMIT, linewidth=1, label="p99 at capacity")
    right.set(xlabel="requests per second", ylabel="milliseconds")
    right.legend(frameon=False)
    _from_zero(left, per_second)
    _from_zero(right, [*p99_ms, p99_at_capacity_ms])
    for axes in (left, right):
        _plain(axes)
    return figure


def _from_zero(axes: Axes, values: Sequence[float]) -> None:
    axes.set_ylim(0, 1.08 * max(values, default=1.0))


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.25)
