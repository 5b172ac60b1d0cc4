"""The audits behind `check` and before `fit`."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainer.datasets import (
    noise,
    quarters,
    three_class_dataset,
    write_image,
    write_mask,
    write_split,
)
from trainer.data.audit import (
    DatasetAudit,
    TrainingAudit,
    audit_dataset,
    audit_for_training,
    available_splits,
)
from trainer.data.dataset import VocFolder
from trainer.data.split_audit import SplitAudit
from trainer.errors import DatasetError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """train: a, b, c; val: d; 20 x 24 pixels each, a quarter ignored."""
    return three_class_dataset(tmp_path / "data", count=4)


def audit_all(root: Path, *, max_distance: int = -1) -> DatasetAudit:
    folder = VocFolder.open(root)
    return audit_dataset(folder, available_splits(root), max_distance=max_distance)


def audit_one(root: Path, split: str, *, limit: int | None = None) -> SplitAudit:
    return audit_dataset(VocFolder.open(root), [split], limit=limit).splits[0]


def before_training(root: Path, *, border: str | None = None) -> TrainingAudit:
    return audit_for_training(VocFolder.open(root, border=border), "train", "val")


def test_a_good_split_is_counted_and_has_no_problems(root: Path) -> None:
    write_image(root, "c", noise(30, 40))
    write_mask(root, "c", np.zeros((30, 40), dtype=np.uint8))
    audit = audit_one(root, "train")
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
    audit = audit_one(root, "train")
    assert len(audit.problems) == 2
    assert "a.png: unknown mask values 9 (480 pixels)" in audit.problems[0]
    assert "b.png: the mask is missing" in audit.problems[1]
    assert audit.pixels.sum() == 3 * 120


def test_a_split_that_is_not_there_is_a_problem(root: Path) -> None:
    audit = audit_one(root, "test")
    assert audit.images == 0
    assert len(audit.problems) == 1
    assert audit.shares.tolist() == [0, 0, 0]


def test_only_the_first_images_are_read_under_a_limit(root: Path) -> None:
    (root / "JPEGImages/c.png").unlink()
    audit = audit_one(root, "train", limit=2)
    assert (audit.images, audit.problems) == (2, [])


def test_a_split_without_one_labelled_pixel_is_a_problem(root: Path) -> None:
    write_mask(root, "d", np.full((20, 24), 255, dtype=np.uint8))
    audit = audit_one(root, "val")
    assert audit.ignored_pixels == 480
    assert audit.problems == ["split val: no pixel is labelled, every one is ignored"]


def test_the_splits_there_are_come_sorted(root: Path) -> None:
    write_split(root, "again", ["a"])
    assert available_splits(root) == ["again", "train", "val"]


def test_shared_images_are_counted_and_one_is_named(root: Path) -> None:
    assert audit_all(root).problems == []
    write_split(root, "val", ["d", "c", "b"])
    assert audit_all(root).problems == ["splits train and val share 2 images, b among them"]
    with pytest.raises(DatasetError, match="splits train and val share 2 images, b among them"):
        before_training(root)


def test_other_splits_may_share_images_and_are_noted(root: Path) -> None:
    write_split(root, "trainval", ["a", "b", "c", "d"])
    audit = audit_all(root)
    assert audit.problems == []
    assert "trainval (3)" in audit.notes[0]
    assert "trainval and val (1)" in audit.notes[0]


def test_an_image_of_several_splits_is_read_once(root: Path) -> None:
    write_split(root, "again", ["a", "b", "c"])
    totals: list[int] = []
    calls: list[None] = []
    audit_dataset(
        VocFolder.open(root),
        available_splits(root),
        on_total=totals.append,
        on_image=lambda: calls.append(None),
    )
    assert totals == [4]
    assert len(calls) == 4


def test_the_border_class_is_counted(tmp_path: Path) -> None:
    root = three_class_dataset(tmp_path / "data")
    (root / "classes.json").unlink()
    write_mask(root, "d", quarters(20, 24))
    audit = audit_dataset(VocFolder.open(root, border="class"), ["val"]).splits[0]
    assert audit.pixels[21] == 120
    assert audit.ignored_pixels == 0


def test_pixels_around_a_class_are_those_of_the_images_that_hold_it(root: Path) -> None:
    write_mask(root, "c", np.zeros((20, 24), dtype=np.uint8))
    audit = before_training(root).train
    assert audit.pixels_with_class.tolist() == [2 * 360 + 480, 2 * 360, 2 * 360]
    assert audit.images_with_class.tolist() == [3, 2, 2]


@pytest.mark.parametrize("border", [None, "class", "ignore"])
def test_binary_masks_of_0_and_255_are_refused_and_explained(
    border: str | None, root: Path
) -> None:
    if border is not None:  # VOC's own classes, where 255 is the border
        (root / "classes.json").unlink()
    for name in "abcd":
        write_mask(root, name, np.uint8(255) * (quarters(20, 24) == 1))
    only = "ground" if border is None else "background"
    complaint = (
        rf"split train: every labelled pixel is of class 0 \({only}\); the others are 255, "
        "which is not a class: a mask of two classes holds 0 and 1, not 0 and 255"
    )
    with pytest.raises(DatasetError, match=complaint):
        before_training(root, border=border)


def test_one_class_alone_cannot_be_trained_on_but_measured(root: Path) -> None:
    write_mask(root, "d", np.full((20, 24), 2, dtype=np.uint8))
    sentence = "split {}: every labelled pixel is of class 2 (green)"
    assert sentence.format("val") in before_training(root).notes
    for name in "abc":
        write_mask(root, name, np.full((20, 24), 2, dtype=np.uint8))
    assert sentence.format("train") in audit_all(root).problems
    with pytest.raises(DatasetError, match=r"split train: every labelled pixel is of class 2"):
        before_training(root)


def test_a_few_binary_masks_are_noted(root: Path) -> None:
    write_mask(root, "b", np.uint8(255) * (quarters(20, 24) == 1))
    notes = before_training(root).notes
    assert notes == ["split train: 1 mask of 0 and 255 alone, b among them; 255 is not a class"]


def test_palettes_that_contradict_each_other_are_refused(root: Path) -> None:
    """Index 1 is class 2 by colour in a; in b, whose 2 has no class's colour, it is 1 by index."""
    order = bytes([0, 0, 0, 0, 255, 0, 255, 0, 0])
    foreign = bytes([0, 0, 0, 255, 0, 0, 9, 9, 9])
    for name, palette in (("a", order), ("b", foreign)):
        mask = Image.fromarray(quarters(20, 24) % 3)
        mask.putpalette(palette)
        mask.save(root / f"SegmentationClass/{name}.png")
    with pytest.raises(DatasetError, match=r"a\.png: its palette .* b\.png does not tell"):
        before_training(root)
    assert len(audit_all(root).problems) == 1


def test_the_same_file_in_both_splits_is_refused_with_both_names(root: Path) -> None:
    write_image(root, "d", noise(20, 24, seed=1))  # what b shows
    sentence = (
        "split val repeats 1 image of split train under another name: "
        f"{root}/JPEGImages/d.png holds the bytes of b.png"
    )
    assert audit_all(root).problems == [sentence]
    with pytest.raises(DatasetError, match=re.escape(sentence)):
        before_training(root)


def test_the_same_file_twice_in_training_is_noted(root: Path) -> None:
    write_image(root, "c", noise(20, 24, seed=1))
    assert "1 image of split train with the file of another, b and c among them" in (
        audit_all(root).notes
    )


def test_near_duplicates_are_counted_across_and_within(root: Path) -> None:
    pixels = np.asarray(Image.fromarray(noise(8, 8)).resize((240, 200)))
    for name, quality in (("a", 95), ("c", 60), ("d", 80)):
        (root / f"JPEGImages/{name}.png").unlink()
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg", quality=quality)
        write_mask(root, name, quarters(200, 240))
    audit = audit_all(root, max_distance=4)
    assert audit.across is not None
    assert audit.within is not None
    assert {(p.first, p.second) for p in audit.across.closest} == {("a", "d"), ("c", "d")}
    assert [(p.first, p.second) for p in audit.within.closest] == [("a", "c")]
    assert audit_all(root).across is None


def test_classes_only_validation_has_are_noted(root: Path) -> None:
    for name in "abc":
        write_mask(root, name, quarters(20, 24) % 2)
    assert "split val has pixels of green, split train none" in before_training(root).notes


def test_files_without_a_split_and_ids_with_two_files_are_noted(root: Path) -> None:
    write_image(root, "stray", noise(20, 24))
    write_image(root, "a", noise(20, 24), suffix=".jpg")
    notes = audit_all(root).notes
    assert "1 image in no split, stray among them" in notes
    assert "1 id with several images, a.jpg, a.png among them; a.jpg is used" in notes


def test_fit_hears_the_first_problem_and_how_many_more_there_are(root: Path) -> None:
    write_mask(root, "a", np.full((20, 24), 9, dtype=np.uint8))
    write_mask(root, "c", quarters(24, 20))
    write_image(root, "b", noise(20, 24)).write_bytes(b"no picture")
    with pytest.raises(DatasetError) as caught:
        before_training(root)
    message = str(caught.value)
    assert "a.png: unknown mask values 9 (480 pixels)" in message
    assert "(and 2 more problems)" in message
    assert f"check --data {root}" in message
    assert "\n" not in message


def test_what_on_image_raises_ends_the_audit(root: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_for_training(VocFolder.open(root), "train", "val", on_image=stop)


def test_the_kept_audit_is_used_until_a_mask_changes(root: Path, tmp_path: Path) -> None:
    calls: list[None] = []

    def audit() -> TrainingAudit:
        return audit_for_training(
            VocFolder.open(root),
            "train",
            "val",
            on_image=lambda: calls.append(None),
            cache=tmp_path / "audit.json",
        )

    first, second = audit(), audit()
    assert len(calls) == 4
    assert second.to_dict() == first.to_dict()
    assert second.train.sizes == {(24, 20): 3}
    write_mask(root, "a", np.zeros((20, 24), dtype=np.uint8))
    assert audit().train.pixels.tolist() != first.train.pixels.tolist()
    (tmp_path / "audit.json").write_bytes(b"{")
    audit()
    assert len(calls) == 12


def test_one_split_cannot_be_both(root: Path) -> None:
    with pytest.raises(DatasetError, match="splits train and train share 3 images"):
        audit_for_training(VocFolder.open(root), "train", "train")
