"""Diagrams of what a dataset holds: how much of each class, and how large the images are."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from models.classes import ClassSet
from trainer.data.split_audit import SplitAudit
from trainer.pictures.lettering import class_label
from trainer.wording import counted

MAX_CLASSES_SHOWN = 40
MARKERS = "osD^vP*X"


def draw_class_shares(splits: list[SplitAudit], class_set: ClassSet) -> Figure:
    """Bars of each class: its share of the labelled pixels, and of the images that hold it."""
    splits = [split for split in splits if split.images]
    shown = _largest(splits, len(class_set))
    bars = max(1, len(splits))
    height = 1.2 + len(shown) * (0.12 + 0.13 * bars)
    figure = Figure(figsize=(11, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    pixels, images = figure.subplots(1, 2, sharey=True)
    names = [class_label(index, class_set.names[index]) for index in shown]
    _bars(pixels, [split.shares[shown] for split in splits], [s.name for s in splits])
    _bars(
        images,
        [split.images_with_class[shown] / split.images for split in splits],
        [f"{s.name} ({counted(s.images, 'image')})" for s in splits],
    )
    title = "Share of the labelled pixels"
    if len(shown) < len(class_set):
        title += f" ({len(shown)} of {len(class_set)} classes)"
    pixels.set(yticks=range(len(shown)), yticklabels=names, title=title)
    pixels.invert_yaxis()
    images.set(title="Share of the images that hold the class", xlim=(0, 1.12))
    if splits:
        handles, labels = images.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(splits)))
    return figure


def _largest(splits: list[SplitAudit], count: int) -> list[int]:
    """Class ids in their order; of many classes those with the most pixels."""
    total = np.zeros(count)
    for split in splits:
        total += split.shares
    largest = np.argsort(-total, kind="stable")[:MAX_CLASSES_SHOWN]
    if count > MAX_CLASSES_SHOWN:
        largest = largest[total[largest] > 0]  # rows of nothing would crowd out what there is
    return sorted(largest.tolist())


def _bars(axes: Axes, values: list[np.ndarray], names: list[str]) -> None:
    thickness = 0.8 / max(1, len(values))
    for index, (row, name) in enumerate(zip(values, names, strict=True)):
        offset = (index - (len(values) - 1) / 2) * thickness
        bars = axes.barh(np.arange(len(row)) + offset, row, thickness, label=name)
        if len(values) <= 3:
            labels = ["none" if value == 0 else f"{value:.1%}" for value in row]
            axes.bar_label(bars, labels, padding=2, fontsize=7)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.12, y=0.01)


def draw_image_sizes(splits: list[SplitAudit]) -> Figure:
    """Width against height; a mark's area grows with the number of images of that size."""
    figure = Figure(figsize=(7, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    largest = 1
    for index, split in enumerate(s for s in splits if s.sizes):
        sizes = np.array(list(split.sizes))  # (N, 2)
        counts = np.array(list(split.sizes.values()))
        images = counted(int(counts.sum()), "image")
        largest = max(largest, int(sizes.max()))
        axes.scatter(
            sizes[:, 0],
            sizes[:, 1],
            s=20 + 180 * counts / counts.max(),
            marker=MARKERS[index % len(MARKERS)],
            facecolors="none",
            edgecolors=f"C{index}",
            label=f"{split.name}: {counted(len(sizes), 'size')}, {images}",
        )
    edge = largest * 1.08
    axes.plot([0, edge], [0, edge], color="grey", lw=0.8, ls=":", zorder=0)
    axes.set(xlabel="width in pixels", ylabel="height in pixels", title="Image sizes")
    axes.set(xlim=(0, edge), ylim=(0, edge), aspect="equal")
    axes.grid(alpha=0.3)
    if axes.collections:
        axes.legend(loc="upper left")
    return figure
