"""Pictures of what a network does."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.trainer.datasets import THREE_CLASSES
from trainer.pictures.samples import GAP, MAX_PANEL, indexed_image, save_comparison


def test_an_indexed_picture_is_class_map_and_colours_in_one() -> None:
    labels = torch.tensor([[0, 1], [2, 255]], dtype=torch.uint8)
    image = indexed_image(labels, THREE_CLASSES)
    assert image.mode == "P"
    assert np.asarray(image).tolist() == labels.tolist()
    colors = np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()
    assert colors == [[0, 0, 0], [255, 0, 0], [0, 255, 0], [224, 224, 192]]


def test_a_comparison_is_image_label_result_side_by_side(tmp_path: Path) -> None:
    image = torch.full((3, 6, 8), 77, dtype=torch.uint8)
    labels = torch.ones(6, 8, dtype=torch.uint8)
    result = torch.full((6, 8), 2, dtype=torch.uint8)
    path = tmp_path / "new" / "folder" / "a.png"
    save_comparison(path, image, labels, result, THREE_CLASSES)
    with Image.open(path) as opened:
        sheet = np.asarray(opened)
    assert sheet.shape == (6, 3 * 8 + 2 * GAP, 3)
    panels = [sheet[:, start : start + 8].reshape(-1, 3) for start in (0, 8 + GAP, 16 + 2 * GAP)]
    expected = [[77, 77, 77], [255, 0, 0], [0, 255, 0]]
    assert [np.unique(panel, axis=0).tolist() for panel in panels] == [[c] for c in expected]
    assert (sheet[:, 8 : 8 + GAP] == 255).all()


def test_a_large_picture_is_scaled_down_in_its_class_colours(tmp_path: Path) -> None:
    labels = torch.zeros(100, 2000, dtype=torch.uint8)
    labels[:, 1000:] = 1
    image = torch.zeros(3, 100, 2000, dtype=torch.uint8)
    path = tmp_path / "a.png"
    save_comparison(path, image, labels, labels, THREE_CLASSES)
    with Image.open(path) as opened:
        sheet = np.asarray(opened)
    assert sheet.shape == (26, 3 * MAX_PANEL + 2 * GAP, 3)
    middle = sheet[:, MAX_PANEL + GAP : 2 * MAX_PANEL + GAP].reshape(-1, 3)
    assert np.unique(middle, axis=0).tolist() == [[0, 0, 0], [255, 0, 0]]


def test_a_very_thin_picture_keeps_a_row(tmp_path: Path) -> None:
    labels = torch.zeros(1, 3000, dtype=torch.uint8)
    path = tmp_path / "a.png"
    image = torch.zeros(3, 1, 3000, dtype=torch.uint8)
    save_comparison(path, image, labels, labels, THREE_CLASSES)
    with Image.open(path) as sheet:
        assert sheet.height == 1
