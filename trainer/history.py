"""What a run has reached so far: `metrics.csv` and `curves.png`."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models.atomic import write_atomically, write_bytes


@dataclass(frozen=True)
class EpochRecord:
    """One line of metrics.csv. Losses are per image at the input's size; accuracy is the share
    of labelled pixels; the validation metrics are at the labels' own resolution."""

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_mean_iou: float


def write_history(folder: Path, history: list[EpochRecord]) -> None:
    """Rewrites both files from the whole history, so a resumed run leaves no gap or repeat."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    for record in history:
        writer.writerow(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(record).items()}
        )
    write_bytes(folder / "metrics.csv", text.getvalue().encode())
    figure = draw_curves(history)
    write_atomically(folder / "curves.png", lambda stream: figure.savefig(stream, format="png"))


def draw_curves(history: list[EpochRecord]) -> Figure:
    """Loss on the left; accuracy and mean IoU on the right; train dashed, validation solid."""
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    loss, score = figure.subplots(1, 2)
    epochs = [record.epoch for record in history]
    loss.plot(epochs, [r.train_loss for r in history], "C0o--", ms=3, label="train")
    loss.plot(epochs, [r.val_loss for r in history], "C0o-", ms=3, label="validation")
    loss.set(xlabel="epoch", ylabel="cross entropy per pixel", title="Loss")
    score.plot(epochs, [r.train_accuracy for r in history], "C1o--", ms=3, label="train accuracy")
    score.plot(epochs, [r.val_accuracy for r in history], "C1o-", ms=3, label="val accuracy")
    score.plot(epochs, [r.val_mean_iou for r in history], "C2o-", ms=3, label="val mean IoU")
    score.set(xlabel="epoch", title="Pixel accuracy and mean IoU", ylim=(0, 1))
    for axes in (loss, score):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
