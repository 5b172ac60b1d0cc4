"""A whole image, resized or in tiles as its manifest says."""

import pytest
import torch

from models.geometry import normalise, resize_pixels
from models.manifest import InputSpec
from models.segmentation import forward_for, segment_image
from models.tiling import segment_tiled
from models.upsample import segment_logits
from tests.networks import manifest_for, random_images, small_network

CPU = torch.device("cpu")


@pytest.fixture
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 150, 110), dtype=torch.uint8, generator=generator)


def test_mode_resize_stretches_the_image_and_the_logits_back(pixels: torch.Tensor) -> None:
    network = small_network("unet_resnet50")
    spec = manifest_for(network, "unet_resnet50").input
    actual = segment_image(pixels, spec, network, device=CPU, batch_size=1)
    images = normalise(resize_pixels(pixels, spec.height, spec.width), spec)[None]
    with torch.no_grad():
        logits = network(images.contiguous(memory_format=torch.channels_last))[0]
    expected = segment_logits(logits, 150, 110)
    assert torch.equal(actual.labels, expected.labels)
    assert torch.equal(actual.confidence, expected.confidence)


def test_logits_are_left_at_the_resolution_at_which_they_were_computed() -> None:
    network = small_network("unet_efficientnet_lite0")
    with torch.inference_mode():
        assert forward_for(network)(random_images(1, 3, 64, 96)).shape[-2:] == (32, 48)


def test_tiles_are_interpolated_as_the_network_does(pixels: torch.Tensor) -> None:
    network = small_network("unet_efficientnet_lite0")
    resized = manifest_for(network, "unet_efficientnet_lite0").input
    spec = InputSpec.model_validate(resized.model_dump() | {"mode": "tile"})
    found, expected = (
        segment_image(pixels, spec, forward, device=CPU, batch_size=4)
        for forward in (forward_for(network), network)
    )
    assert (found.labels == expected.labels).float().mean() >= 0.9999
    torch.testing.assert_close(found.confidence, expected.confidence, rtol=1e-4, atol=1.0)


def test_a_network_without_interpolation_is_asked_itself() -> None:
    """`torch.compile` compiles a function so often and then no more, whosever network it is."""
    network = small_network("unet")
    assert forward_for(network) is network


def test_mode_tile_never_resizes(pixels: torch.Tensor) -> None:
    network = small_network("unet_resnet50")
    resized = manifest_for(network, "unet_resnet50").input
    spec = InputSpec.model_validate(resized.model_dump() | {"mode": "tile"})
    shapes: list[torch.Size] = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        shapes.append(images.shape)
        logits: torch.Tensor = network(images)
        return logits

    actual = segment_image(pixels, spec, forward, device=CPU, batch_size=4)
    expected = segment_tiled(pixels, spec, network, device=CPU, batch_size=4)
    assert torch.equal(actual.labels, expected.labels)
    assert {shape[1:] for shape in shapes} == {(3, 64, 96)}
    assert actual.labels.shape == (150, 110)


def test_the_answer_carries_no_autograd_graph(pixels: torch.Tensor) -> None:
    network = small_network("unet_resnet50")
    spec = manifest_for(network, "unet_resnet50").input
    answer = segment_image(pixels, spec, network, device=CPU, batch_size=1)
    assert not answer.confidence.requires_grad
