"""blend.c as compiled here says what the operators of PyTorch and NumPy say."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import compiled
from models.blend import Blend
from models.grid import Grid
from models.manifest import InputSpec
from models.upsample import Segmentation
from tests.networks import random_images

CPU = torch.device("cpu")
sides = st.integers(1, 90)
tiles = st.integers(8, 24)
GRIDS = {
    "height": sides,
    "width": sides,
    "tile_height": tiles,
    "tile_width": tiles,
    "overlap": st.floats(0, 0.5),
}
class_counts = st.sampled_from([1, 2, 5, 22])


def spec_of(height: int, width: int, overlap: float) -> InputSpec:
    return InputSpec(
        mode="tile",
        height=height,
        width=width,
        overlap=overlap,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        stride=8,
    )


def tile_of(num_classes: int, spec: InputSpec, seed: int) -> Tensor:
    """Logits (K, h, w)."""
    return 3 * random_images(num_classes, spec.height, spec.width, seed=seed)


def blended(grid: Grid, tiles: list[Tensor]) -> Segmentation:
    blend = Blend(grid, len(tiles[0]), CPU)
    for tile in tiles:
        blend.add(tile)
    return blend.finish()


def by_operators(grid: Grid, tiles: list[Tensor]) -> Segmentation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        return blended(grid, tiles)


def assert_same(found: Segmentation, expected: Segmentation) -> None:
    """But for what rounding decides between as good as equals."""
    other = int((found.labels != expected.labels).sum())
    assert other <= 0.001 * expected.labels.numel()
    counts = torch.bincount(found.labels.flatten().long(), minlength=len(expected.pixels))
    assert torch.equal(found.pixels, counts)
    assert np.allclose(found.confidence, expected.confidence, rtol=1e-5, atol=1e-3 + other)


@pytest.mark.usefixtures("instructions")
@settings(deadline=None, max_examples=60)
@given(**GRIDS, num_classes=class_counts)
def test_sums_labels_and_counts(
    height: int, width: int, tile_height: int, tile_width: int, overlap: float, num_classes: int
) -> None:
    spec = spec_of(tile_height, tile_width, overlap)
    grid = Grid.over(height, width, spec)
    tiles = [tile_of(num_classes, spec, seed) for seed in range(len(grid))]
    assert_same(blended(grid, tiles), by_operators(grid, tiles))


@pytest.mark.usefixtures("instructions")
@settings(deadline=None, max_examples=60)
@given(
    **GRIDS,
    native=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    is_half=st.booleans(),
    num_classes=class_counts,
)
def test_logits_are_interpolated_to_the_tile(
    height: int,
    width: int,
    tile_height: int,
    tile_width: int,
    overlap: float,
    native: tuple[int, int],
    is_half: bool,
    num_classes: int,
) -> None:
    """From whatever resolution they were computed at."""
    if is_half:
        tile_height, tile_width = 2 * native[0], 2 * native[1]
    grid = Grid.over(height, width, spec_of(tile_height, tile_width, overlap))
    tiles = [3 * random_images(num_classes, *native, seed=seed) for seed in range(len(grid))]
    size = (tile_height, tile_width)
    whole = [F.interpolate(tile[None], size, mode="bilinear")[0] for tile in tiles]
    found = blended(grid, tiles)
    assert_same(found, by_operators(grid, tiles))
    assert_same(found, blended(grid, whole))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("native", [(256, 256), (128, 128)])
@pytest.mark.parametrize("size", [(300, 900), (900, 300)])
def test_tiles_of_the_usual_size(size: tuple[int, int], native: tuple[int, int]) -> None:
    grid = Grid.over(*size, spec_of(256, 256, 0.25))
    tiles = [3 * random_images(22, *native, seed=seed) for seed in range(len(grid))]
    assert_same(blended(grid, tiles), by_operators(grid, tiles))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("native", [(16, 24), (8, 12)])
def test_tiles_are_read_where_they_lie(native: tuple[int, int]) -> None:
    """Channels last as PyTorch's convolutions leave them, or one of a batch."""
    grid = Grid.over(40, 61, spec_of(16, 24, 0.25))
    tiles = [3 * random_images(5, *native, seed=seed) for seed in range(len(grid))]
    batch = torch.stack(tiles)
    expected = blended(grid, tiles)
    for other in (list(batch), list(batch.contiguous(memory_format=torch.channels_last))):
        found = blended(grid, other)
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.confidence, expected.confidence)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("native", [(16, 24), (8, 12)])
def test_numbers_of_other_precisions_are_what_they_are_in_float32(native: tuple[int, int]) -> None:
    grid = Grid.over(40, 61, spec_of(16, 24, 0.25))
    halves = [3 * random_images(5, *native, seed=seed).bfloat16() for seed in range(len(grid))]
    singles = [half.float() for half in halves]
    for other in (halves, [half.double() for half in halves]):
        for way in (blended, by_operators):
            found, expected = way(grid, other), way(grid, singles)
            assert torch.equal(found.labels, expected.labels)
            assert torch.equal(found.confidence, expected.confidence)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("native", [(16, 16), (8, 8)])
def test_what_is_no_number_shows_in_the_sums(native: tuple[int, int]) -> None:
    grid = Grid.over(30, 40, spec_of(16, 16, 0.25))
    tiles = [3 * random_images(5, *native, seed=seed) for seed in range(len(grid))]
    tiles[2][:, 7, 7] = torch.nan
    found = blended(grid, tiles)
    assert found.pixels.sum() == 30 * 40
    assert found.confidence.sum().isnan()


@pytest.mark.usefixtures("instructions")
def test_more_classes_than_it_has_memory_for_are_refused() -> None:
    spec = spec_of(8, 8, 0.25)
    with pytest.raises(ValueError, match="257 classes; at most 256"):
        Blend(Grid.over(8, 12, spec), 257, CPU).add(tile_of(257, spec, 0))


def test_where_there_is_no_memory_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Mock()
    library.blend.return_value = 0
    library.instructions.return_value = 0
    monkeypatch.setattr(compiled, "library", lambda: library)
    spec = spec_of(8, 8, 0.25)
    with pytest.raises(MemoryError, match="row of a tile"):
        Blend(Grid.over(8, 12, spec), 3, CPU).add(tile_of(3, spec, 0))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_tile_of_other_classes_is_refused(num_classes: int) -> None:
    blend = Blend(Grid.over(40, 61, spec_of(16, 24, 0.25)), 3, CPU)
    with pytest.raises(ValueError, match=rf"a tile of {num_classes} classes, expected 3"):
        blend.add(torch.zeros(num_classes, 16, 24))
