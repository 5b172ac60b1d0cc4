"""Diagrams and contact sheets of a dataset."""

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from models.classes import ClassSet, SegmentationClass, generic_classes
from tests.trainer.datasets import THREE_CLASSES, three_class_dataset, write_image
from trainer.data.audit import audit_dataset
from trainer.data.dataset import VocFolder
from trainer.data.duplicates import Pair
from trainer.data.split_audit import SplitAudit, unread_split
from trainer.pictures.audit_figures import (
    MAX_CLASSES_SHOWN,
    draw_class_shares,
    draw_image_sizes,
)
from trainer.pictures.contact_sheet import CELL, MARGIN, OPACITY, draw_pairs, draw_samples
from trainer.pictures.figures import figure_png


@pytest.fixture
def folder(tmp_path: Path) -> VocFolder:
    """train: a, b, c; val: d."""
    return VocFolder.open(three_class_dataset(tmp_path / "data", count=4))


def splits_of(folder: VocFolder) -> list[SplitAudit]:
    return audit_dataset(folder, ["train", "val"]).splits


def widths(axes: Axes) -> list[float]:
    return [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]


def test_the_bars_are_the_shares(folder: VocFolder) -> None:
    pixels, images = draw_class_shares(splits_of(folder), THREE_CLASSES).axes
    assert widths(pixels) == pytest.approx([1 / 3] * 6)
    assert widths(images) == pytest.approx([1] * 6)
    assert [text.get_text() for text in pixels.get_yticklabels()] == ["ground", "red", "green"]


def test_of_many_classes_the_largest_are_shown() -> None:
    count = 200
    zeros = np.zeros(count, dtype=np.int64)
    split = SplitAudit("train", 1, np.arange(count), zeros, zeros)
    axes = draw_class_shares([split], generic_classes(count)).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [f"class {index}" for index in range(count - MAX_CLASSES_SHOWN, count)]
    assert "(40 of 200 classes)" in axes.get_title()


def test_a_name_that_the_font_lacks_is_drawn_without_a_warning(folder: VocFolder) -> None:
    named = ClassSet(
        tuple(SegmentationClass(i, f"도로 {i}", (i, 0, 0)) for i in range(len(THREE_CLASSES)))
    )
    png = figure_png(draw_class_shares(splits_of(folder), named))
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"


def test_every_size_is_a_mark(folder: VocFolder) -> None:
    splits = splits_of(folder)
    splits[0].sizes[(640, 480)] = 7
    marks = draw_image_sizes(splits).axes[0].collections
    assert np.asarray(marks[0].get_offsets()).tolist() == [[24, 20], [640, 480]]
    assert np.asarray(marks[1].get_offsets()).tolist() == [[24, 20]]


def test_splits_that_could_not_be_read_draw_nothing(folder: VocFolder) -> None:
    unread = [unread_split(folder, "test", "no such split")]
    assert figure_png(draw_class_shares(unread, THREE_CLASSES))
    assert figure_png(draw_image_sizes(unread))


def test_a_sample_shows_the_mask_over_the_photograph(folder: VocFolder) -> None:
    write_image(folder.root, "d", np.full((20, 24, 3), 200, dtype=np.uint8))
    sheet = draw_samples(folder, ["d"], count=5)
    assert sheet is not None
    pixels = np.asarray(sheet)
    red = (1 - OPACITY) * 200 + OPACITY * np.array([255, 0, 0])
    top_right = pixels[MARGIN + 20, MARGIN + CELL - 20]
    assert np.abs(top_right - red).max() <= 1
    assert (pixels == THREE_CLASSES.classes[1].color).all(-1).any()  # the legend


def test_samples_come_from_all_over_a_split(folder: VocFolder) -> None:
    few, all_of_them = (draw_samples(folder, ["a", "b", "c"], count=n) for n in (2, 9))
    assert few is not None
    assert all_of_them is not None
    assert (few.width, all_of_them.width) == (MARGIN + 2 * (CELL + MARGIN), MARGIN + 3 * 268)


def test_images_that_cannot_be_read_are_left_out(folder: VocFolder) -> None:
    (folder.root / "SegmentationClass/a.png").unlink()
    assert draw_samples(folder, ["a"], count=5) is None
    assert draw_samples(folder, ["a", "b"], count=5) is not None


def test_pairs_are_drawn_side_by_side(folder: VocFolder) -> None:
    sheet = draw_pairs(folder, [Pair(1, "a", "d")], count=5)
    assert sheet is not None
    assert sheet.width == MARGIN + 2 * (CELL + MARGIN)
    assert draw_pairs(folder, [], count=5) is None
