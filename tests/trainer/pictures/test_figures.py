"""The pictures of an evaluation: what they show, and that any class set can be drawn."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.classes import ClassSet, SegmentationClass, generic_classes
from tests.trainer.datasets import THREE_CLASSES
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.scores import ImageScore
from trainer.evaluation.summary import class_figures
from trainer.pictures.figures import (
    draw_class_bars,
    draw_comparison,
    draw_confusion,
    figure_png,
    save_figure,
)

LABELS = torch.tensor([[0, 0, 0, 1], [0, 255, 255, 1]], dtype=torch.uint8)
RESULT = torch.tensor([[0, 0, 1, 1], [0, 2, 0, 2]], dtype=torch.uint8)
PHOTOGRAPH = torch.zeros(3, 2, 4, dtype=torch.uint8)


def evaluation_of(class_set: ClassSet, labels: Tensor, result: Tensor) -> Evaluation:
    evaluation = Evaluation.empty(class_set, boundary=True)
    evaluation.update("a", labels, result, 0.5)
    return evaluation


def test_the_confusion_picture_holds_the_shares_of_each_labelled_class() -> None:
    matrix = evaluation_of(THREE_CLASSES, LABELS, RESULT).matrix
    axes = draw_confusion(matrix, THREE_CLASSES).axes[0]
    drawn: Any = axes.images[0].get_array()
    shares = np.ma.filled(drawn, np.nan)
    np.testing.assert_allclose(shares[:2], [[0.75, 0.25, 0], [0, 0.5, 0.5]])
    assert np.isnan(shares[2]).all()  # predicted, but never labelled
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["ground", "red", "green"]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "0.75", (1, 0): "0.25", (1, 1): "0.50", (2, 1): "0.50"}


def test_a_class_that_never_occurs_is_named_and_takes_no_room() -> None:
    matrix = evaluation_of(THREE_CLASSES, LABELS.clamp(max=0), RESULT.clamp(max=1)).matrix
    figure = draw_confusion(matrix, THREE_CLASSES)
    assert len(figure.axes[0].get_yticklabels()) == 2
    assert figure.get_supxlabel() == "neither labelled nor predicted: green"


@pytest.mark.parametrize("count", [1, 2, 30])
def test_any_number_of_classes_can_be_drawn(count: int) -> None:
    class_set = generic_classes(count)
    ids = torch.arange(count, dtype=torch.uint8).repeat(3, 1)
    evaluation = evaluation_of(class_set, ids, ids.flip(1))
    assert opened(figure_png(draw_confusion(evaluation.matrix, class_set))).width > 200
    rows = class_figures(evaluation, class_set)
    assert opened(figure_png(draw_class_bars(rows))).height > 100


def test_a_split_without_a_label_can_be_drawn() -> None:
    evaluation = Evaluation.empty(THREE_CLASSES)
    figure_png(draw_confusion(evaluation.matrix, THREE_CLASSES))
    figure_png(draw_class_bars(class_figures(evaluation, THREE_CLASSES)))


def test_the_bars_go_from_the_worst_class_up_to_the_best() -> None:
    evaluation = evaluation_of(THREE_CLASSES, LABELS, RESULT)
    axes = draw_class_bars(class_figures(evaluation, THREE_CLASSES)).axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["green", "red", "ground"]
    widths = [float(bar.get_width()) for bar in axes.containers[0]]
    assert widths == pytest.approx([0, 1 / 3, 3 / 4])


def test_a_comparison_marks_what_is_wrong_and_what_does_not_count() -> None:
    score = ImageScore("a$b$", pixel_accuracy=2 / 3, mean_iou=0.5, labelled_pixels=6)
    figure = draw_comparison(PHOTOGRAPH, LABELS, RESULT, THREE_CLASSES, score=score)
    assert [axes.get_title() for axes in figure.axes] == ["image", "label", "result", "errors"]
    errors = np.asarray(figure.axes[3].images[0].get_array())
    assert errors.tolist() == [[0, 0, 1, 0], [0, 2, 2, 1]]
    label = np.asarray(figure.axes[1].images[0].get_array())
    assert label[0, 3].tolist() == [255, 0, 0]
    caption = figure.get_suptitle()
    assert "0.500" in caption
    assert "66.7%" in caption
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["ground", "red", "green", "not labelled", "wrong", "right", "not counted"]
    assert opened(figure_png(figure)).width > 1000


@pytest.mark.parametrize("shape", [(1, 600), (600, 1)])
def test_very_long_images_can_be_compared(shape: tuple[int, int]) -> None:
    ids = torch.zeros(shape, dtype=torch.uint8)
    score = ImageScore("a", pixel_accuracy=1, mean_iou=1, labelled_pixels=600)
    image = ids.expand(3, *shape)
    figure_png(draw_comparison(image, ids, ids, THREE_CLASSES, score=score))


@pytest.mark.parametrize("name", ["배경", "$x^", "$a_{$"])
def test_class_names_are_drawn_as_they_are_without_a_warning(name: str) -> None:
    renamed = SegmentationClass(2, name, (0, 255, 0))
    class_set = ClassSet((*THREE_CLASSES.classes[:2], renamed))
    evaluation = evaluation_of(class_set, LABELS, RESULT)
    figure_png(draw_confusion(evaluation.matrix, class_set))
    figure_png(draw_class_bars(class_figures(evaluation, class_set)))


def test_a_figure_is_saved_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "picture.png"
    rows = class_figures(evaluation_of(THREE_CLASSES, LABELS, RESULT), THREE_CLASSES)
    save_figure(path, draw_class_bars(rows))
    assert opened(path.read_bytes()).format == "PNG"
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_a_rows_figures_are_of_one_class() -> None:
    ground, red, green = class_figures(evaluation_of(THREE_CLASSES, LABELS, RESULT), THREE_CLASSES)
    assert (ground.precision, ground.recall, ground.labelled_share) == (1, 0.75, 4 / 6)
    assert (red.labelled_pixels, red.predicted_pixels, red.dice) == (2, 2, 0.5)
    assert green.present
    assert green.iou == 0
    absent = class_figures(Evaluation.empty(THREE_CLASSES), THREE_CLASSES)[0]
    assert not absent.present
    assert math.isnan(absent.boundary_iou)


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))
