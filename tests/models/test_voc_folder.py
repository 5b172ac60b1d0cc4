"""The synthetic dataset that other tests train on is what they take it for."""

from pathlib import Path

import numpy as np
from PIL import Image

from models.classes import voc_color
from tests.voc_folder import SHAPE_COLORS, make_voc_folder, voc_palette


def names(folder: Path, split: str) -> list[str]:
    return (folder / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()


def test_has_six_images_to_train_on_and_two_held_out(voc_folder: Path) -> None:
    assert len(names(voc_folder, "train")) == 6
    assert len(names(voc_folder, "val")) == 2


def test_masks_fit_their_images_and_hold_one_class_with_a_border(voc_folder: Path) -> None:
    sizes = set()
    for name in names(voc_folder, "train") + names(voc_folder, "val"):
        with (
            Image.open(voc_folder / "JPEGImages" / f"{name}.jpg") as photograph,
            Image.open(voc_folder / "SegmentationClass" / f"{name}.png") as mask,
        ):
            assert mask.mode == "P"
            assert photograph.size == mask.size
            labels, colors = np.array(mask), np.array(photograph)
        sizes.add(labels.shape)
        background, class_id, border = np.unique(labels)
        assert (background, border) == (0, 255)
        inside = np.median(colors[labels == class_id], axis=0)
        assert np.abs(inside - SHAPE_COLORS[int(class_id)]).max() < 12
    assert len(sizes) > 4


def test_the_palette_is_vocs() -> None:
    assert voc_palette() == [value for index in range(256) for value in voc_color(index)]


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    first, second, other = (
        make_voc_folder(tmp_path / name, count=3, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    files = [path.relative_to(first) for path in first.rglob("*.*")]
    assert len(files) == 8
    assert all((first / f).read_bytes() == (second / f).read_bytes() for f in files)
    assert any((first / f).read_bytes() != (other / f).read_bytes() for f in files)
