"""metrics.csv and curves.png."""

import csv
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.history import EpochRecord, draw_curves, write_history

COLUMNS = [
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_mean_iou",
]


def record(epoch: int, *, loss: float = 0.5) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        step=epoch * 10,
        learning_rate=1e-3,
        train_loss=loss,
        train_accuracy=0.25 * epoch,
        val_loss=2 * loss,
        val_accuracy=0.2 * epoch,
        val_mean_iou=0.1 * epoch,
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_one_row_an_epoch_and_its_columns(tmp_path: Path) -> None:
    write_history(tmp_path, [record(1), record(2)])
    assert [field.name for field in fields(EpochRecord)] == COLUMNS
    written = rows(tmp_path)
    assert list(written[0]) == COLUMNS
    assert [row["epoch"] for row in written] == ["1", "2"]
    assert float(written[1]["val_mean_iou"]) == pytest.approx(0.2)
    assert float(written[0]["learning_rate"]) == 1e-3


def test_writing_again_replaces_the_rows(tmp_path: Path) -> None:
    write_history(tmp_path, [record(1), record(2)])
    write_history(tmp_path, [record(1, loss=7.0)])
    assert [row["train_loss"] for row in rows(tmp_path)] == ["7"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


def test_a_figure_that_is_not_a_number_is_written_as_nan(tmp_path: Path) -> None:
    write_history(tmp_path, [record(1, loss=float("nan"))])
    assert rows(tmp_path)[0]["train_loss"] == "nan"


def test_the_curves_are_a_picture_with_something_on_it(tmp_path: Path) -> None:
    write_history(tmp_path, [record(1), record(2)])
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        colors = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colors) > 50


def test_the_curves_show_every_epoch_of_train_and_validation() -> None:
    history = [record(1), record(2), record(3)]
    loss, score = draw_curves(history).axes
    drawn = {line.get_label(): list(map(float, line.get_ydata())) for line in loss.lines}  # type: ignore[arg-type]
    assert drawn == {"train": [0.5] * 3, "validation": [1.0] * 3}
    labels = [line.get_label() for line in score.lines]
    assert labels == ["train accuracy", "val accuracy", "val mean IoU"]
    assert all(list(line.get_xdata()) == [1, 2, 3] for line in (*loss.lines, *score.lines))  # type: ignore[arg-type]
