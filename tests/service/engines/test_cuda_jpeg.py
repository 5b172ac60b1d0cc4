"""JPEGs decoded for a pass; libjpeg stands for the GPU's decoder, which tests/test_accelerator.py
asks itself."""

from collections.abc import Sequence

import pytest
import torch
import torchvision
from torch import Tensor

from models.geometry import resize_pixels
from models.pixels import open_image, rgb_pixels
from service.engines import cuda_jpeg
from service.engines.cuda_jpeg import decode_resized
from service.engines.engine import Jpeg
from tests.models.test_jpeg import jpeg, picture

CPU = torch.device("cpu")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who decodes is asked on the CPU; how many he was asked for at a time."""
    counts: list[int] = []

    def decode(contents: Sequence[Tensor], *, mode: str, device: torch.device) -> list[Tensor]:
        counts.append(len(contents))
        return [by_libjpeg(each, mode=mode) for each in contents]

    by_libjpeg = torchvision.io.decode_jpeg
    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Waited)
    Waited.times = 0
    return counts


class Waited:
    times = 0

    @classmethod
    def synchronize(cls) -> None:
        cls.times += 1


def shot(width: int, height: int, mode: str = "RGB") -> Jpeg:
    return Jpeg(jpeg(picture(width, height, mode), quality=90), height, width)


def expected(image: Jpeg) -> Tensor:
    with open_image(image.content) as opened:
        return resize_pixels(rgb_pixels(opened), 24, 32)


def assert_decoded(found: Tensor, images: Sequence[Jpeg]) -> None:
    for one, image in zip(found, images, strict=True):
        assert (one.int() - expected(image).int()).abs().float().mean() < 1


@pytest.mark.parametrize("sizes", [[(60, 40)] * 3, [(60, 40), (33, 47), (60, 40), (32, 24)]])
def test_images_are_decoded_together_and_resized(
    sizes: list[tuple[int, int]], asked: list[int]
) -> None:
    images = [shot(*size) for size in sizes]
    found, lost = decode_resized(images, 24, 32, CPU)
    assert found.shape == (len(images), 3, 24, 32)
    assert found.dtype == torch.uint8
    assert lost == set()
    assert asked == [len(images)]
    assert_decoded(found, images)


def test_grey_ones_are_rgb(asked: list[int]) -> None:
    images = [shot(60, 40, "L")]
    found, _ = decode_resized(images, 24, 32, CPU)
    assert_decoded(found, images)


@pytest.mark.parametrize("broken", [b"nothing", b"\xff\xd8\xff\xd9"])
def test_a_broken_one_is_blank_and_costs_the_others_nothing(
    broken: bytes, asked: list[int]
) -> None:
    images = [shot(60, 40), Jpeg(broken, 40, 60), shot(33, 47)]
    found, lost = decode_resized(images, 24, 32, CPU)
    assert lost == {1}
    assert not found[1].any()
    assert_decoded(found[[0, 2]], [images[0], images[2]])
    assert asked == [3, 1, 1, 1]


def test_so_is_one_of_another_size_than_it_was_said_to_have(asked: list[int]) -> None:
    content = shot(60, 40).content
    found, lost = decode_resized([Jpeg(content, 40, 60), Jpeg(content, 41, 60)], 24, 32, CPU)
    assert lost == {1}
    assert found[0].any()


def test_so_may_all_be(asked: list[int]) -> None:
    found, lost = decode_resized([Jpeg(b"nothing", 40, 60)] * 2, 24, 32, CPU)
    assert lost == {0, 1}
    assert found.shape == (2, 3, 24, 32)


def test_only_so_many_pixels_are_decoded_at_a_time(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_jpeg, "MAX_PIXELS", 2 * 60 * 40)
    images = [*(shot(60, 40) for _ in range(3)), shot(100, 90), Jpeg(b"nothing", 9, 9)]
    found, lost = decode_resized(images, 24, 32, CPU)
    assert asked == [2, 1, 1, 1]
    assert Waited.times == 4, "what is read is not to be written over"
    assert lost == {4}
    assert_decoded(found[:4], images[:4])


def test_no_memory_is_said_to_who_asked(asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        decode_resized([shot(60, 40)], 24, 32, CPU)
