"""Class names in scripts that the usual font does not have."""

import logging
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import ImageFont

from models.classes import ClassSet, SegmentationClass
from tests.trainer.datasets import THREE_CLASSES
from trainer.data.split_audit import SplitAudit
from trainer.evaluation.metrics import ConfusionMatrix
from trainer.pictures import lettering
from trainer.pictures.audit_figures import draw_class_shares
from trainer.pictures.figures import draw_confusion, figure_png
from trainer.pictures.lettering import class_label, draw_as_written, font_file

OTHER_FONT = "STIXNonUnicode"  # comes with matplotlib, too
NAME = "a\ue000"  # a letter that DejaVu Sans lacks and this one has
CLASSES = ClassSet((*THREE_CLASSES.classes[:2], SegmentationClass(2, NAME, (0, 255, 0))))


def forget() -> None:
    for kept in (lettering._families, lettering._advise):
        kept.cache_clear()


@pytest.fixture(autouse=True)
def no_other_font(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lettering, "FALLBACK_FONTS", ())
    forget()
    yield
    forget()


@pytest.fixture
def another_font(monkeypatch: pytest.MonkeyPatch, no_other_font: None) -> None:
    monkeypatch.setattr(lettering, "FALLBACK_FONTS", ("Nowhere Installed", OTHER_FONT))


def test_a_name_that_no_font_has_is_behind_its_id_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert [class_label(7, name) for name in ("road", NAME, NAME)] == [
            "road",
            f"7 {NAME}",
            f"7 {NAME}",
        ]
    assert caplog.text.count("Noto Sans CJK") == 1


@pytest.mark.usefixtures("another_font")
def test_a_name_that_another_font_has_is_drawn_with_it() -> None:
    assert class_label(7, NAME) == NAME
    assert ImageFont.truetype(font_file(NAME[1:])).getname()[0] == OTHER_FONT
    assert ImageFont.truetype(font_file("road")).getname()[0] == "DejaVu Sans"
    figure = Figure()
    figure.text(0.5, 0.5, NAME)
    draw_as_written(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw_idle()
        figure.draw_without_rendering()


NO_PIXELS = ConfusionMatrix(3, ignore_index=255)


def split_named(name: str) -> SplitAudit:
    zeros = np.zeros(3, dtype=np.int64)
    return SplitAudit(name, 1, zeros, zeros, zeros)


def test_every_figure_with_class_names_names_them_so() -> None:
    for figure in (
        draw_class_shares([split_named("train")], CLASSES),
        draw_confusion(NO_PIXELS, CLASSES),
    ):
        names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert names == ["ground", "red", f"2 {NAME}"]


@pytest.mark.parametrize("name", [r"$$\frac{", "$x^$", "a $ b"])
def test_dollars_make_no_formula_in_the_shares_of_a_dataset(name: str) -> None:
    named = ClassSet((*THREE_CLASSES.classes[:2], SegmentationClass(2, name, (0, 255, 0))))
    assert figure_png(draw_class_shares([split_named(name)], named))
