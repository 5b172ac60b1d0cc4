"""The kernel for NVIDIA's GPUs without one: its source compiled for them, and run on the CPU."""

import logging
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models import compiled, cuda_segment, numpy_segment
from models.cuda_segment import SOURCE, can_segment, parts_of_batch, segment_batch
from models.upsample import Segmentation, segment_probabilities
from tests.models.cuda.emulated import EmulatedKernel
from tests.networks import random_images

SIZES = [  # (height, width) of the probabilities, and of the image
    ((32, 32), (32, 32)),
    ((33, 47), (95, 261)),
    ((64, 64), (17, 23)),
    ((16, 64), (40, 20)),
    ((16, 16), (1, 1)),
    ((16, 16), (1, 1500)),
    ((16, 16), (1500, 1)),
    ((1, 1), (9, 7)),
]


@pytest.fixture(autouse=True)
def _compiled_anew() -> Iterator[None]:
    """Neither by an earlier test, nor left to a later one that has a GPU."""
    cuda_segment._compile.cache_clear()
    yield
    cuda_segment._compile.cache_clear()


@pytest.fixture
def emulated(emulated_kernel: EmulatedKernel, monkeypatch: pytest.MonkeyPatch) -> EmulatedKernel:
    """The CPU counts as a GPU."""
    monkeypatch.setattr(cuda_segment, "can_segment", lambda device: True)
    monkeypatch.setattr(cuda_segment, "_compiled", lambda index: emulated_kernel)
    return emulated_kernel


def by_the_book(probabilities: Tensor, size: tuple[int, int]) -> Segmentation:
    """Without the kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_segment, "can_segment", lambda device: False)
        patch.setattr(compiled, "library", lambda: None)
        patch.setattr(numpy_segment, "MAX_MIXED", 0.0)  # every pixel
        return segment_probabilities(probabilities, *size)


def assert_same(found: Segmentation, expected: Segmentation) -> None:
    """But for what rounding decides between as good as equals."""
    count = len(expected.pixels)
    assert (found.labels == expected.labels).float().mean() >= 0.999
    assert found.pixels.tolist() == found.labels.flatten().bincount(minlength=count).tolist()
    torch.testing.assert_close(found.confidence, expected.confidence, rtol=1e-4, atol=1.0)


@pytest.mark.parametrize("num_classes", [1, 2, 22, 150, 255])
@pytest.mark.parametrize(("size", "image"), SIZES, ids=str)
def test_labels_counts_and_confidence_are_those_of_the_other_ways(
    size: tuple[int, int], image: tuple[int, int], num_classes: int, emulated: EmulatedKernel
) -> None:
    probabilities = (3 * random_images(num_classes, *size)).softmax(0)
    found = segment_probabilities(probabilities, *image)
    assert tuple(found.labels.shape) == image
    assert found.pixels.sum() == image[0] * image[1]
    assert_same(found, by_the_book(probabilities, image))
    assert_same(found.cpu(), by_the_book(probabilities, image))


def test_of_equals_the_lowest_is_taken(emulated: EmulatedKernel) -> None:
    found = segment_probabilities(torch.full((5, 8, 8), 0.2), 30, 40)
    assert found.pixels.tolist() == [1200, 0, 0, 0, 0]
    assert found.confidence.tolist() == pytest.approx([240, 0, 0, 0, 0], rel=1e-5)


def test_what_is_no_number_is_of_the_last_class_as_elsewhere(emulated: EmulatedKernel) -> None:
    probabilities = random_images(5, 16, 16).softmax(0)
    probabilities[:, 3:6, 2] = torch.nan
    found, expected = (
        segment_probabilities(probabilities, 40, 50),
        by_the_book(probabilities, (40, 50)),
    )
    assert torch.equal(found.labels, expected.labels)
    assert found.confidence.isnan().tolist() == expected.confidence.isnan().tolist()


def test_planes_of_a_batch_are_read_where_they_lie(emulated: EmulatedKernel) -> None:
    batch = (3 * random_images(3, 7, 20, 24)).softmax(1)
    for image in (batch[1], batch[1].permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        assert_same(segment_probabilities(image, 50, 61), by_the_book(batch[1], (50, 61)))
    cut = batch[2, :, :13, :9]  # as the last tile of an image is
    assert_same(segment_probabilities(cut, 26, 20), by_the_book(cut, (26, 20)))


@pytest.mark.parametrize("num_classes", [2, 21])
def test_images_of_a_pass_are_answered_as_alone(num_classes: int, emulated: EmulatedKernel) -> None:
    batch = (3 * random_images(4, num_classes, 16, 16)).softmax(1)
    before = len(emulated.blocks)
    sizes = [(9, 7), None, (50, 161), (16, 16)]
    found = parts_of_batch(segment_batch(batch, sizes).numpy(), num_classes, sizes)
    assert emulated.blocks[before:] == [(2 * 7, 3)], "one launch for all"
    for image, size, answer in zip(batch, sizes, found, strict=True):
        if size is None:
            assert answer is None
        else:
            assert answer is not None
            assert_same(Segmentation(*map(torch.from_numpy, answer)), by_the_book(image, size))


def test_of_a_batch_with_gaps_between_its_planes(emulated: EmulatedKernel) -> None:
    batch = (3 * random_images(4, 6, 16, 16)).softmax(1)[::2, ::2]
    sizes = [(9, 7), (50, 61)]
    found = parts_of_batch(segment_batch(batch, sizes).numpy(), 3, sizes)
    for image, size, answer in zip(batch, sizes, found, strict=True):
        assert answer is not None
        assert_same(Segmentation(*map(torch.from_numpy, answer)), by_the_book(image, size))


def test_other_orders_in_memory_are_refused(emulated: EmulatedKernel) -> None:
    batch = random_images(2, 6, 16, 16).contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="planes are not contiguous"):
        segment_batch(batch, [(9, 7), None])


def test_every_image_of_a_pass_has_a_size_or_none(emulated: EmulatedKernel) -> None:
    with pytest.raises(ValueError, match="3 sizes for 2 images"):
        segment_batch(torch.rand(2, 4, 8, 8), [(9, 7), None, (3, 3)])


def test_none_may_be_wanted(emulated: EmulatedKernel) -> None:
    before = len(emulated.blocks)
    whole = segment_batch(torch.rand(2, 4, 8, 8), [None, None])
    assert parts_of_batch(whole.numpy(), 4, [None, None]) == [None, None]
    assert len(emulated.blocks) == before


def test_blocks_cover_the_image_and_no_more(emulated: EmulatedKernel) -> None:
    segment_probabilities(torch.rand(2, 4, 4), 17, 257)
    assert emulated.blocks[-1] == (3 * 3, 1)  # of 128 columns and 8 rows


@pytest.mark.parametrize("capability", ["75", "80", "86", "90", "100"])
def test_the_source_compiles(capability: str) -> None:
    core = pytest.importorskip("cuda.core")
    options = core.ProgramOptions(std="c++17", arch=f"sm_{capability}")
    program = core.Program(SOURCE.read_text(encoding="utf-8"), "c++", options)
    assert len(program.compile("cubin").code) > 1000


def test_its_blocks_are_those_that_are_started() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    assert f"constexpr int THREADS = {cuda_segment.THREADS};" in source
    assert f"constexpr int ROWS = {cuda_segment.ROWS};" in source


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_do_without(device: str) -> None:
    assert not can_segment(torch.device(device))


def test_so_does_a_gpu_without_the_package(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with caplog.at_level(logging.INFO):
        assert not can_segment(torch.device("cuda"))
        assert not can_segment(torch.device("cuda", 0))
    assert [record.message for record in caplog.records] == [
        "cuda-core would make masks faster; it is not installed"
    ]


def test_so_does_a_gpu_whose_driver_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(index: int) -> None:
        raise RuntimeError("CUDA_ERROR_NO_DEVICE")

    monkeypatch.setattr(cuda_segment, "_Kernel", fail)
    assert not can_segment(torch.device("cuda", 3))
    assert "the kernel cannot be used: CUDA_ERROR_NO_DEVICE" in caplog.text
