"""metrics.csv and curves.png."""

import csv
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.training.history import EpochRecord, best_epoch, draw_curves, write_history

COLUMNS = [
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_cross_entropy",
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
        train_loss=3 * loss,
        train_cross_entropy=loss,
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
    assert [row["train_loss"] for row in rows(tmp_path)] == ["21"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


def test_a_figure_that_is_not_a_number_is_written_as_nan(tmp_path: Path) -> None:
    write_history(tmp_path, [record(1, loss=float("nan"))])
    assert rows(tmp_path)[0]["train_loss"] == "nan"


def unmeasured(epoch: int) -> EpochRecord:
    return replace(record(epoch), val_loss=None, val_accuracy=None, val_mean_iou=None)


def scored(epoch: int, mean_iou: float) -> EpochRecord:
    return replace(record(epoch), val_mean_iou=mean_iou)


def test_the_figures_of_an_epoch_without_validation_are_empty(tmp_path: Path) -> None:
    write_history(tmp_path, [unmeasured(1), record(2)])
    first, second = rows(tmp_path)
    assert [first[name] for name in COLUMNS[-3:]] == ["", "", ""]
    assert all(second[name] for name in COLUMNS)


@pytest.mark.parametrize(
    ("history", "best"),
    [
        ([], None),
        ([unmeasured(1)], None),
        ([scored(1, 0.2), scored(2, 0.5), scored(3, 0.5)], 2),
        ([unmeasured(1), scored(2, 0.2), unmeasured(3)], 2),
        ([scored(1, float("nan")), scored(2, float("nan"))], 1),
        ([scored(1, float("nan")), scored(2, 0.0)], 2),
    ],
    ids=["none", "unmeasured", "tie", "gaps", "nan", "nan and zero"],
)
def test_the_best_epoch_is_the_first_of_the_highest_mean_iou(
    history: list[EpochRecord], best: int | None
) -> None:
    assert best_epoch(history) == best


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


def test_the_curves_of_the_validation_stand_at_the_epochs_it_has() -> None:
    loss, score = draw_curves([unmeasured(1), record(2), unmeasured(3), record(4)]).axes
    drawn = {line.get_label(): list(line.get_xdata()) for line in (*loss.lines, *score.lines)}  # type: ignore[arg-type]
    assert drawn["train"] == drawn["train accuracy"] == [1, 2, 3, 4]
    assert drawn["validation"] == drawn["val accuracy"] == drawn["val mean IoU"] == [2, 4]
