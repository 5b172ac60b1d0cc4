"""The mask PNG: class map and colour picture in one file."""

import struct
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from models.classes import ClassSet, SegmentationClass, generic_classes, voc_classes
from service.render import indexed_png
from tests.service.colours import CLASSES, decoded


def random_labels(count: int, height: int = 37, width: int = 53) -> torch.Tensor:
    """uint8 (H, W) of an odd width, so that rows end within a byte; every class occurs."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(0, count, (height, width), generator=generator).to(torch.uint8)
    labels.view(-1)[:count] = torch.arange(count, dtype=torch.uint8)
    return labels


def header(png: bytes) -> tuple[int, int, int, int]:
    """(width, height, bit depth, colour type) as written in the IHDR chunk."""
    found: tuple[int, int, int, int] = struct.unpack(">IIBB", png[16:26])
    return found


def palette_of(png: bytes) -> bytes:
    start = png.index(b"PLTE") + 4
    (length,) = struct.unpack(">I", png[start - 8 : start - 4])
    return png[start : start + length]


@pytest.mark.parametrize(
    ("count", "bits"),
    [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 8), (22, 8), (200, 8), (255, 8)],
)
def test_a_mask_reads_back_identically_at_the_least_depth(count: int, bits: int) -> None:
    labels = random_labels(count)
    png = indexed_png(labels.numpy(), generic_classes(count))
    assert header(png) == (53, 37, bits, 3)
    assert np.array_equal(decoded(png), labels.numpy())


@pytest.mark.parametrize("count", [2, 4, 16, 22, 200])
def test_opencv_reads_the_colours_of_every_depth(count: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv is optional")
    labels, class_set = random_labels(count).numpy(), generic_classes(count)
    png = np.frombuffer(indexed_png(labels, class_set), np.uint8)
    picture = cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    colours = np.array([entry.color for entry in class_set.classes], np.uint8)
    assert np.array_equal(picture, colours[labels])


@pytest.mark.parametrize("class_set", [CLASSES, voc_classes(border="class"), generic_classes(200)])
def test_the_palette_is_the_class_colours(class_set: ClassSet) -> None:
    labels = random_labels(len(class_set))
    png = indexed_png(labels.numpy(), class_set)
    colors = np.frombuffer(palette_of(png), dtype=np.uint8).reshape(-1, 3)
    assert [tuple(color) for color in colors.tolist()][: len(class_set)] == [
        entry.color for entry in class_set.classes
    ]


def test_the_mask_as_a_picture_shows_each_pixel_in_its_class_colour() -> None:
    labels = random_labels(len(CLASSES))
    image = Image.open(BytesIO(indexed_png(labels.numpy(), CLASSES))).convert("RGB")
    colors = np.array([entry.color for entry in CLASSES.classes], dtype=np.uint8)
    assert np.array_equal(np.array(image), colors[labels.numpy()])


def test_a_class_that_is_absent_keeps_its_place_in_the_palette() -> None:
    classes = ClassSet(
        tuple(SegmentationClass(index, f"c{index}", (index, 200, 7)) for index in range(20))
    )
    labels = torch.full((4, 4), 19, dtype=torch.uint8)
    png = indexed_png(labels.numpy(), classes)
    assert decoded(png).tolist() == labels.tolist()
    assert palette_of(png)[19 * 3 : 20 * 3] == bytes((19, 200, 7))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 900), (900, 1)])
def test_masks_of_any_shape_read_back(height: int, width: int) -> None:
    labels = torch.arange(height * width).remainder(3).to(torch.uint8).view(height, width)
    assert np.array_equal(decoded(indexed_png(labels.numpy(), CLASSES)), labels.numpy())


@pytest.mark.parametrize("count", [2, 4, 16, 22])
def test_a_large_mask_is_not_held_again_while_it_is_written(count: int) -> None:
    labels = (
        torch.arange(count, dtype=torch.uint8).repeat_interleave(1000).repeat(4000, 200 // count)
    )
    tracemalloc.start()
    try:
        png = indexed_png(labels.numpy(), generic_classes(count))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(decoded(png), labels.numpy())
    assert peak < labels.numel() / 100
