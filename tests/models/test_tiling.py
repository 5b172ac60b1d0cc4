"""The sliding window: every pixel, no seams, and no more memory than tiles have in common."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.geometry import PADDING_COLOR, normalise
from models.grid import Axis, Grid, Tile, crop
from models.manifest import InputSpec
from models.tiling import segment_tiled
from models.upsample import Segmentation, segment_logits
from tests.networks import random_images, small_network

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SIZES = [  # of the image, around tiles of 16 x 24
    pytest.param((16, 24), id="one tile"),
    pytest.param((5, 7), id="smaller than a tile"),
    pytest.param((5, 100), id="lower than a tile"),
    pytest.param((90, 7), id="narrower than a tile"),
    pytest.param((17, 25), id="a pixel more than a tile"),
    pytest.param((61, 130), id="wide"),
    pytest.param((130, 61), id="high"),
    pytest.param((1, 300), id="a row"),
    pytest.param((300, 1), id="a column"),
    pytest.param((1, 1), id="a pixel"),
]
sides = st.integers(1, 70)
tiles = st.integers(8, 24)
overlaps = st.floats(0, 0.5)


def spec_of(height: int = 16, width: int = 24, overlap: float = 0.25) -> InputSpec:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    return InputSpec(
        mode="tile", height=height, width=width, overlap=overlap, mean=mean, std=std, stride=16
    )


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def tiled(
    pixels: Tensor, spec: InputSpec, network: nn.Module, *, batch_size: int = 3
) -> Segmentation:
    return segment_tiled(pixels, spec, network, batch_size=batch_size, device=CPU)


def pointwise(num_classes: int = 5) -> nn.Module:
    """A network that sees one pixel at a time, and so the same in every tile."""
    convolution = nn.Conv2d(3, num_classes, 1)
    with torch.no_grad():
        convolution.weight.copy_(2 * random_images(num_classes, 3, 1, 1))
    return convolution


def by_the_book(pixels: Tensor, spec: InputSpec, forward: nn.Module) -> Tensor:
    """float64 (K, H, W): weighted sums of whole-image size, divided by the sum of the weights."""
    _, height, width = pixels.shape
    offset = torch.arange(spec.height, dtype=torch.float64) + 0.5
    rows = torch.sin(torch.pi * offset / spec.height) ** 2
    offset = torch.arange(spec.width, dtype=torch.float64) + 0.5
    columns = torch.sin(torch.pi * offset / spec.width) ** 2
    window = rows[:, None] * columns
    shape = (max(height, spec.height), max(width, spec.width))
    padded = torch.full((3, *shape), PADDING_COLOR, dtype=torch.uint8)
    padded[:, :height, :width] = pixels
    sums: Tensor | None = None
    weights = torch.zeros(shape, dtype=torch.float64)
    for tile in Grid.over(height, width, spec):
        where = (
            slice(tile.top, tile.top + spec.height),
            slice(tile.left, tile.left + spec.width),
        )
        with torch.no_grad():
            logits = forward(normalise(padded[:, *where], spec)[None])[0]
        if sums is None:
            sums = torch.zeros(len(logits), *shape, dtype=torch.float64)
        sums[:, *where] += logits.double().softmax(0) * window
        weights[where] += window
    assert sums is not None
    return (sums / weights)[:, :height, :width]


def assert_is_argmax_of(segmentation: Segmentation, probability: Tensor) -> None:
    """Labels, counts and sums are those of the probabilities float64 (K, H, W); rounding may turn
    a label only where two classes are as good as equal."""
    best, expected = probability.max(0)
    chosen = probability.gather(0, segmentation.labels.long()[None])[0]
    assert (best - chosen).max() < 1e-5
    assert (segmentation.labels == expected).double().mean() >= 0.9999
    for index in range(len(probability)):
        where = segmentation.labels == index
        assert segmentation.pixels[index] == where.sum()
        sure = float(best[where].sum())
        assert segmentation.confidence[index].item() == pytest.approx(sure, rel=1e-5, abs=1e-5)


class TestAxis:
    @settings(deadline=None)
    @given(length=st.integers(1, 3000), tile=st.integers(8, 200), overlap=overlaps)
    def test_tiles_reach_from_end_to_end_and_share_what_was_asked_for(
        self, length: int, tile: int, overlap: float
    ) -> None:
        axis = Axis.spread(length, tile, overlap=overlap)
        starts = [axis.start(index) for index in range(axis.count)]
        assert starts[0] == 0
        assert starts[-1] + axis.span == length
        steps = {after - before for before, after in pairwise(starts)}
        assert all(0 < step <= max(1, tile - int(tile * overlap)) for step in steps)
        assert not steps or max(steps) - min(steps) <= 1

    @settings(deadline=None)
    @given(length=st.integers(1, 300), tile=st.integers(8, 60), overlap=overlaps)
    def test_the_shares_at_every_pixel_add_up_to_one(
        self, length: int, tile: int, overlap: float
    ) -> None:
        axis = Axis.spread(length, tile, overlap=overlap)
        total = torch.zeros(length)
        for index in range(axis.count):
            weights = axis.weights(index)
            assert weights.min() > 0
            total[axis.start(index) : axis.start(index) + axis.span] += weights
        assert torch.allclose(total, torch.ones(length), atol=1e-6)

    @settings(deadline=None)
    @given(length=st.integers(1, 3000), tile=st.integers(8, 200), overlap=overlaps)
    def test_what_a_tile_has_in_common_with_those_that_follow(
        self, length: int, tile: int, overlap: float
    ) -> None:
        axis = Axis.spread(length, tile, overlap=overlap)
        shared = [axis.span - axis.step(index) for index in range(axis.count)]
        assert shared[-1] == 0
        assert axis.common == max(shared)

    def test_no_more_tiles_than_needed(self) -> None:
        assert Axis.spread(256, 256, overlap=0.25).count == 1
        assert Axis.spread(257, 256, overlap=0.25).count == 2
        assert Axis.spread(256 + 192, 256, overlap=0.25).count == 2
        assert Axis.spread(256 + 193, 256, overlap=0.25).count == 3
        assert Axis.spread(512, 256, overlap=0).count == 2

    def test_a_tile_alone_has_a_share_of_exactly_one(self) -> None:
        assert torch.equal(Axis.spread(100, 256, overlap=0.25).weights(0), torch.ones(100))
        first = Axis.spread(448, 256, overlap=0.25).weights(0)
        assert torch.equal(first[:192], torch.ones(192))

    @pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5])
    def test_no_seam_shows_where_tiles_disagree(self, overlap: float) -> None:
        """From one tile to the next by small steps: over the pixels they share, and at the border
        of a tile from next to nothing to nothing."""
        axis = Axis.spread(1000, 100, overlap=overlap)
        for index in range(1, axis.count - 1):
            share = torch.cat([torch.zeros(1), axis.weights(index), torch.zeros(1)])
            assert share.diff().abs().max() < 2 / (100 * overlap)
            assert max(share[1], share[-2]) < 0.02


class TestGrid:
    @pytest.mark.parametrize(("size", "turned"), [((40, 90), True), ((90, 40), False)])
    def test_bands_run_along_the_shorter_side(self, size: tuple[int, int], turned: bool) -> None:
        """What a band has in common with the next is all that is kept of it."""
        grid = Grid.over(*size, spec_of(16, 16))
        assert grid.turned == turned
        assert grid.across.length == 40
        first, second = list(grid)[:2]
        assert (first.left == second.left) == turned
        assert (first.top == second.top) != turned


class TestSegmentTiled:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
    def test_equals_the_blend_of_whole_image_buffers(
        self, size: tuple[int, int], overlap: float
    ) -> None:
        pixels, spec = noise(*size), spec_of(overlap=overlap)
        network = small_network("unet_resnet50")
        expected = by_the_book(pixels, spec, network)
        assert_is_argmax_of(tiled(pixels, spec, network), expected)

    @settings(deadline=None, max_examples=60)
    @given(height=sides, width=sides, tile_height=tiles, tile_width=tiles, overlap=overlaps)
    def test_a_network_that_sees_one_pixel_answers_as_on_the_whole_image(
        self, height: int, width: int, tile_height: int, tile_width: int, overlap: float
    ) -> None:
        pixels, spec = noise(height, width), spec_of(tile_height, tile_width, overlap)
        network = pointwise()
        segmentation = tiled(pixels, spec, network)
        with torch.no_grad():
            whole = network(normalise(pixels, spec)[None])[0]
        assert_is_argmax_of(segmentation, whole.double().softmax(0))
        assert segmentation.pixels.sum() == height * width

    @pytest.mark.parametrize("size", [(16, 24), (5, 24), (16, 7), (1, 1)])
    def test_one_tile_is_the_plain_forward_pass(self, size: tuple[int, int]) -> None:
        pixels, spec = noise(*size), spec_of()
        network = small_network("unet_resnet50")
        padded = torch.full((3, 16, 24), PADDING_COLOR, dtype=torch.uint8)
        padded[:, : size[0], : size[1]] = pixels
        images = normalise(padded, spec)[None].contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            logits = network(images)[0, :, : size[0], : size[1]]
        expected, actual = segment_logits(logits, *size), tiled(pixels, spec, network)
        assert torch.equal(actual.labels, expected.labels)
        assert torch.equal(actual.pixels, expected.pixels)
        # to float32's rounding, which follows how many pixels share a softmax
        assert torch.allclose(actual.confidence, expected.confidence, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("batch_size", [1, 2, 1000])
    def test_how_many_tiles_share_a_pass_changes_nothing(
        self, size: tuple[int, int], batch_size: int
    ) -> None:
        network = pointwise()
        expected = tiled(noise(*size), spec_of(), network)
        actual = tiled(noise(*size), spec_of(), network, batch_size=batch_size)
        assert torch.equal(actual.labels, expected.labels)
        assert torch.allclose(actual.confidence, expected.confidence)

    def test_on_tiles_sees_every_tile_once_with_its_logits(self) -> None:
        pixels, spec, network = noise(40, 61), spec_of(), pointwise()
        seen: list[Tile] = []

        def on_tiles(batch: list[Tile], logits: Tensor) -> None:
            assert len(batch) == len(logits) <= 4
            seen.extend(batch)
            for tile, one in zip(batch, logits, strict=True):
                images = normalise(crop(pixels, tile), spec)[None]
                assert torch.allclose(network(images)[0], one, atol=1e-5)

        segment_tiled(pixels, spec, network, batch_size=4, device=CPU, on_tiles=on_tiles)
        assert seen == list(Grid.over(40, 61, spec))
        assert len(set(seen)) == len(seen) == len(Grid.over(40, 61, spec))

    def test_the_network_sees_the_image_s_own_pixels_and_grey_beyond(self) -> None:
        pixels = noise(10, 40)
        part = crop(pixels, Tile(0, 20, 16, 24))
        assert torch.equal(part[:, :10, :20], pixels[:, :, 20:])
        assert (part[:, 10:] == PADDING_COLOR).all()
        assert (part[:, :, 20:] == PADDING_COLOR).all()

    def test_types_are_as_promised(self) -> None:
        segmentation = tiled(noise(40, 61), spec_of(), pointwise())
        assert segmentation.labels.dtype == torch.uint8
        assert segmentation.labels.shape == (40, 61)
        assert segmentation.labels.is_contiguous()
        assert segmentation.pixels.dtype == torch.int64
        assert segmentation.pixels.shape == (5,)
        assert segmentation.confidence.dtype == torch.float64
        assert segmentation.confidence.shape == (5,)

    def test_half_precision_logits_are_blended_in_float32(self) -> None:
        network = pointwise()
        halved = segment_tiled(
            noise(61, 130),
            spec_of(),
            lambda images: network(images).bfloat16(),
            batch_size=4,
            device=CPU,
        )
        full = tiled(noise(61, 130), spec_of(), network)
        assert (halved.labels == full.labels).double().mean() > 0.95
        assert torch.allclose(halved.confidence, full.confidence, rtol=0.05)


PEAK_GROWTH = """
import resource, torch
from models.manifest import InputSpec
from models.tiling import segment_tiled
torch.set_num_threads(1)
scale = torch.linspace(-1, 1, {classes}).view({classes}, 1, 1)
spec = InputSpec(mode="tile", height={tile_height}, width={tile_width}, mean=(0.5,) * 3,
                 std=(0.2,) * 3, stride=16, overlap={overlap})
def segment(height, width):
    pixels = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(3, height, width)
    return segment_tiled(pixels, spec, lambda images: images[:, :1] * scale, batch_size=1,
                         device=torch.device("cpu"))
segment(3 * {tile_height}, 3 * {tile_width})  # loads what is loaded once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert segment({height}, {width}).pixels.sum() == {height} * {width}
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def peak_growth(**values: object) -> int:
    """MiB."""
    script = PEAK_GROWTH.format(**values)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize(
    ("size", "tile_size"),
    [
        ((6000, 500), (128, 128)),
        ((500, 6000), (128, 128)),
        ((1, 1_000_000), (8, 1024)),
        ((1_000_000, 1), (1024, 8)),
    ],
)
def test_memory_does_not_follow_the_image_whatever_its_shape(
    size: tuple[int, int], tile_size: tuple[int, int]
) -> None:
    """A band of 22 x 128 x 500 probabilities is 6 MiB, the whole of 3 megapixels 252, of 1
    megapixel 84."""
    sizes = {"height": size[0], "width": size[1]}
    tile_sizes = {"tile_height": tile_size[0], "tile_width": tile_size[1]}
    assert peak_growth(**sizes, **tile_sizes, classes=22, overlap=0.25) < 50


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_of_a_band_only_what_the_next_goes_on_with_is_held() -> None:
    """The band is 100 MiB, what it has in common with the next 6."""
    sizes = {"height": 2048, "width": 2048, "tile_height": 128, "tile_width": 128}
    assert peak_growth(**sizes, classes=100, overlap=0.05) < 50


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_what_a_tile_takes_meanwhile_is_given_back() -> None:
    """32 KiB a tile, of which there are thousands: 120 MiB."""
    sizes = {"height": 3000, "width": 3000, "tile_height": 64, "tile_width": 64}
    assert peak_growth(**sizes, classes=100, overlap=0.25) < 70
