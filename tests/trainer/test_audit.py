"""The audit behind `check`."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.datasets import (
    noise,
    quarters,
    three_class_dataset,
    write_image,
    write_mask,
    write_split,
)
from trainer.audit import audit_split, available_splits, overlap
from trainer.dataset import VocFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """train: a, b, c; val: d; 20 x 24 pixels each, a quarter ignored."""
    return three_class_dataset(tmp_path / "data", count=4)


def test_a_good_split_is_counted_and_has_no_problems(root: Path) -> None:
    write_image(root, "c", noise(30, 40))
    write_mask(root, "c", np.zeros((30, 40), dtype=np.uint8))
    audit = audit_split(VocFolder.open(root), "train")
    assert audit.problems == []
    assert audit.images == 3
    assert audit.pixels.tolist() == [2 * 120 + 1200, 2 * 120, 2 * 120]
    assert audit.ignored_pixels == 2 * 120
    assert audit.images_with_class.tolist() == [3, 2, 2]
    assert audit.sizes == {(24, 20): 2, (40, 30): 1}
    assert audit.shares.tolist() == pytest.approx([0.75, 0.125, 0.125])


def test_every_bad_image_is_a_problem_and_the_others_still_count(root: Path) -> None:
    write_mask(root, "a", np.full((20, 24), 9, dtype=np.uint8))
    (root / "SegmentationClass/b.png").unlink()
    audit = audit_split(VocFolder.open(root), "train")
    assert len(audit.problems) == 2
    assert "a.png: unknown mask values 9 (480 pixels)" in audit.problems[0]
    assert "b.png: the mask is missing" in audit.problems[1]
    assert audit.pixels.sum() == 3 * 120


def test_a_split_that_is_not_there_is_a_problem(root: Path) -> None:
    audit = audit_split(VocFolder.open(root), "test")
    assert audit.images == 0
    assert len(audit.problems) == 1
    assert audit.shares.tolist() == [0, 0, 0]


def test_only_the_first_images_are_read_under_a_limit(root: Path) -> None:
    (root / "JPEGImages/c.png").unlink()
    audit = audit_split(VocFolder.open(root), "train", limit=2)
    assert (audit.images, audit.problems) == (2, [])


def test_a_split_without_one_labelled_pixel_is_a_problem(root: Path) -> None:
    write_mask(root, "d", np.full((20, 24), 255, dtype=np.uint8))
    audit = audit_split(VocFolder.open(root), "val")
    assert audit.ignored_pixels == 480
    assert audit.problems == ["split val: no pixel is labelled, every one is ignored"]


def test_the_splits_there_are_come_sorted(root: Path) -> None:
    write_split(root, "again", ["a"])
    assert available_splits(root) == ["again", "train", "val"]


def test_shared_images_are_counted_and_one_is_named(root: Path) -> None:
    folder = VocFolder.open(root)
    assert overlap(folder, "train", "val") is None
    write_split(root, "val", ["d", "c", "b"])
    sentence = overlap(folder, "train", "val")
    assert sentence == "splits train and val share 2 images, b among them"


def test_the_border_class_is_counted(tmp_path: Path) -> None:
    root = three_class_dataset(tmp_path / "data")
    (root / "classes.json").unlink()
    write_mask(root, "d", quarters(20, 24))
    audit = audit_split(VocFolder.open(root, border="class"), "val")
    assert audit.pixels[21] == 120
    assert audit.ignored_pixels == 0
