"""Pictures of an evaluation, as matplotlib figures: to be saved, or put into a report."""

import io
import textwrap
import warnings
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from torch import Tensor

from models.atomic import write_bytes
from models.classes import ClassSet
from trainer.evaluation.metrics import ConfusionMatrix
from trainer.evaluation.scores import ImageScore
from trainer.evaluation.summary import ClassFigures
from trainer.pictures.lettering import class_label, draw_as_written

MAX_NAMED_ABSENT = 24
MAX_NUMBERED = 15  # classes up to which a cell of the confusion matrix has room for its number
ABSENT_COLOR = "#d9d9d9"
IOU_COLOR, DICE_COLOR = "#1f77b4", "#aec7e8"
RIGHT_COLOR, WRONG_COLOR, IGNORED_COLOR = "white", "#d62728", "#bdbdbd"


def draw_confusion(matrix: ConfusionMatrix, class_set: ClassSet) -> Figure:
    """Shares of each labelled class's pixels by what was predicted: every row sums to 1.

    Classes neither labelled nor predicted are named below instead of drawn.
    """
    drawn = np.flatnonzero((matrix.labelled + matrix.predicted).numpy())
    if len(drawn) == 0:
        drawn = np.arange(len(class_set))  # a grey square says more than none
    counts = matrix.counts.numpy()[np.ix_(drawn, drawn)]
    labelled = counts.sum(1, keepdims=True)  # (k, 1)
    shares = np.where(labelled > 0, counts / np.maximum(labelled, 1), np.nan)
    side = min(3.4 + 0.42 * max(len(drawn), 4), 24)
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    blues = colormaps["Blues"].with_extremes(bad=ABSENT_COLOR)
    shown = axes.imshow(shares, cmap=blues, vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="labelled", title="Where each class's pixels go")
    _name_cells(axes, [_label(class_set, i) for i in drawn.tolist()])
    if len(drawn) <= MAX_NUMBERED:
        _write_shares(axes, shares)
    figure.colorbar(shown, ax=axes, shrink=0.8, label="share of the labelled pixels")
    if np.isnan(shares).any():
        grey = Patch(color=ABSENT_COLOR, label="never labelled")
        figure.legend(handles=[grey], loc="outside lower right", fontsize=8, frameon=False)
    absent = [_label(class_set, i) for i in range(len(class_set)) if i not in drawn]
    figure.supxlabel(_absent_note(absent, width=int(11 * side)), fontsize=8)
    return figure


def draw_class_bars(rows: list[ClassFigures]) -> Figure:
    """IoU and Dice of every class that is present, the best on top."""
    present = sorted((row for row in rows if row.present), key=lambda row: row.iou)
    absent = _absent_note(
        [class_label(row.id, row.name) for row in rows if not row.present], width=110
    )
    lines = len(absent.splitlines())
    figure = _figure(8, 1.6 + 0.34 * max(len(present), 2) + 0.15 * lines)
    axes = figure.subplots()
    place = np.arange(len(present))
    iou, dice = [row.iou for row in present], [row.dice for row in present]
    bars = axes.barh(place + 0.2, iou, 0.4, color=IOU_COLOR, label="IoU")
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=7)
    bars = axes.barh(place - 0.2, dice, 0.4, color=DICE_COLOR, label="Dice")
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=7)
    axes.set_yticks(place, [class_label(row.id, row.name) for row in present], fontsize=9)
    axes.set(xlim=(0, 1.06), ylim=(-0.6, max(len(present), 1) - 0.4), title="IoU and Dice by class")
    axes.set_xticks(np.linspace(0, 1, 6))
    if present:
        mean = float(np.mean(iou))
        axes.axvline(mean, color="0.3", ls="--", lw=1, zorder=0, label=f"mean IoU {mean:.3f}")
    axes.set_xlabel(absent, fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_comparison(
    image: Tensor, labels: Tensor, predicted: Tensor, class_set: ClassSet, *, score: ImageScore
) -> Figure:
    """image | label | result | errors, with the image's figures and the colours' names.

    `image` uint8 (3, H, W); `labels` and `predicted` uint8 (H, W).
    """
    height, width = labels.shape
    figure = _figure(14, min(max(14 / 4 * height / width, 1.5), 8) + 1.1)
    figure.suptitle(
        f"{score.id}: mean IoU {score.mean_iou:.3f} over its labelled classes, "
        f"{score.pixel_accuracy:.1%} of its pixels right",
        fontsize=11,
    )
    panels = figure.subplots(1, 4)
    panels[0].imshow(image.permute(1, 2, 0).numpy())
    for axes, ids in zip(panels[1:3], (labels, predicted), strict=True):
        _show_ids(axes, ids, class_set)
    wrong, ignored = labels != predicted, labels == class_set.ignore_index
    kinds = wrong.byte().masked_fill(ignored, 2)
    panels[3].imshow(
        kinds.numpy(),
        cmap=ListedColormap([RIGHT_COLOR, WRONG_COLOR, IGNORED_COLOR]),
        vmin=-0.5,
        vmax=2.5,
        interpolation="nearest",
    )
    titles = ("image", "label", "result", "errors")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.set(xticks=[], yticks=[])
    handles = _legend_of(labels, predicted, class_set)
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = min(max(170 // (longest + 8), 1), len(handles))  # 170 letters and more fit abreast
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=9, frameon=False
    )
    return figure


def figure_png(figure: Figure) -> bytes:
    """The picture as a file; a letter that no installed font has becomes an empty box."""
    draw_as_written(figure)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(stream, format="png")
    return stream.getvalue()


def save_figure(path: Path, figure: Figure) -> None:
    """As PNG; the folder is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, figure_png(figure))


def _figure(width: float, height: float) -> Figure:
    """Inches; without pyplot, which would keep every figure and look for a display."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _label(class_set: ClassSet, class_id: int) -> str:
    return class_label(class_id, class_set.names[class_id])


def _name_cells(axes: Axes, names: list[str]) -> None:
    """Class names along both sides of a square, white lines between its cells."""
    count = len(names)
    size = 9 if count <= 40 else max(2.0, 360 / count)
    axes.set_xticks(range(count), names, rotation=90, fontsize=size)
    axes.set_yticks(range(count), names, fontsize=size)
    between = np.arange(count - 1) + 0.5
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)


def _write_shares(axes: Axes, shares: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share > 0:
            text = "<.01" if share < 0.005 else f"{share:.2f}"
            color = "white" if share > 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)


def _show_ids(axes: Axes, ids: Tensor, class_set: ClassSet) -> AxesImage:
    palette = np.frombuffer(class_set.palette(), dtype=np.uint8).reshape(256, 3)
    return axes.imshow(palette[ids.numpy()], interpolation="nearest")


def _legend_of(labels: Tensor, predicted: Tensor, class_set: ClassSet) -> list[Patch]:
    """The classes of labels and result in their colours, then what the errors' colours mean."""
    ids: list[int] = np.unique([*np.unique(labels.numpy()), *np.unique(predicted.numpy())]).tolist()
    colors = np.frombuffer(class_set.palette(), dtype=np.uint8).reshape(256, 3) / 255
    ignored = class_set.ignore_index
    names = {entry.id: class_label(entry.id, entry.name) for entry in class_set.classes}
    names[ignored] = "not labelled"
    patches = [Patch(facecolor=colors[i], edgecolor="0.4", label=names[i]) for i in ids]
    kinds = [(WRONG_COLOR, "wrong"), (RIGHT_COLOR, "right")]
    if ignored in ids:
        kinds.append((IGNORED_COLOR, "not counted"))
    return patches + [Patch(facecolor=c, edgecolor="0.4", label=text) for c, text in kinds]


def _absent_note(names: list[str], *, width: int) -> str:
    """In lines of at most `width` letters; empty when no class is absent."""
    if not names:
        return ""
    if len(names) > MAX_NAMED_ABSENT:
        names = [*names[:MAX_NAMED_ABSENT], f"and {len(names) - MAX_NAMED_ABSENT} more"]
    text = f"neither labelled nor predicted: {', '.join(names)}"
    return "\n".join(textwrap.wrap(text, width))
