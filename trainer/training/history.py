"""What a run has reached so far: `metrics.csv` and `curves.png`."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models.atomic import write_atomically, write_bytes


@dataclass(frozen=True)
class EpochRecord:
    """One line of metrics.csv.

    `train_loss` is what was minimised; `train_cross_entropy` and `val_loss` are both the plain
    cross entropy of a labelled pixel at the network's input size, the mean of batches and of
    images, to be held side by side.
    Accuracy is the share of labelled pixels that are right; the validation's accuracy and mean IoU
    are at the labels' own resolution. None where the epoch was not validated.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    train_cross_entropy: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_mean_iou: float | None


def best_epoch(history: list[EpochRecord]) -> int | None:
    """The first epoch of the highest mean IoU; the first validated one when none has a value."""
    validated = [record for record in history if record.val_mean_iou is not None]
    if not validated:
        return None
    return max(validated, key=lambda r: (_or_lowest(r.val_mean_iou), -r.epoch)).epoch


def _or_lowest(score: float | None) -> float:
    return -1.0 if score is None or score != score else score


def write_history(folder: Path, history: list[EpochRecord]) -> None:
    """Rewrites both files from the whole history, so a resumed run leaves no gap or repeat."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_row(record) for record in history)
    write_bytes(folder / "metrics.csv", text.getvalue().encode())
    figure = draw_curves(history)
    write_atomically(folder / "curves.png", lambda stream: figure.savefig(stream, format="png"))


def as_row(record: EpochRecord) -> dict[str, str]:
    """Six digits; empty where there is no figure."""
    return {name: _text(value) for name, value in asdict(record).items()}


def read_history(folder: Path) -> list[EpochRecord]:
    """What `write_history` wrote, to six digits."""
    with (folder / "metrics.csv").open(newline="") as stream:
        return [_record(row) for row in csv.DictReader(stream)]


def _record(row: dict[str, str]) -> EpochRecord:
    values: dict[str, Any] = {k: float(text) if text else None for k, text in row.items()}
    return EpochRecord(**{**values, "epoch": int(row["epoch"]), "step": int(row["step"])})


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def draw_curves(history: list[EpochRecord]) -> Figure:
    """Loss on the left; accuracy and mean IoU on the right; train dashed, validation solid."""
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    loss, score = figure.subplots(1, 2)
    epochs = [record.epoch for record in history]
    validated = [record for record in history if record.val_loss is not None]
    at = [record.epoch for record in validated]
    loss.plot(epochs, [r.train_cross_entropy for r in history], "C0o--", ms=3, label="train")
    loss.plot(at, [r.val_loss for r in validated], "C0o-", ms=3, label="validation")
    loss.set(xlabel="epoch", ylabel="cross entropy per pixel", title="Loss")
    score.plot(epochs, [r.train_accuracy for r in history], "C1o--", ms=3, label="train accuracy")
    score.plot(at, [r.val_accuracy for r in validated], "C1o-", ms=3, label="val accuracy")
    score.plot(at, [r.val_mean_iou for r in validated], "C2o-", ms=3, label="val mean IoU")
    score.set(xlabel="epoch", title="Pixel accuracy and mean IoU", ylim=(0, 1))
    for axes in (loss, score):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(epochs) == 1:
            axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    return figure
