"""PyTorch as an engine: right answers, whoever shares the pass."""

import pytest
import torch
from torch import Tensor

from models import Checkpoint, list_architectures
from models.geometry import normalise
from models.upsample import segment_logits
from models.winners import winners
from service.engines.torch_engine import TorchEngine
from tests.networks import manifest_for, small_network
from tests.service.colours import (
    PAINT,
    SIDE,
    colour_manifest,
    colour_network,
    expected_answer,
    picture_of,
)

CPU = torch.device("cpu")
PRECISIONS = ["float32", "bfloat16", "float16"]


def colour_engine(precision: str = "float32") -> TorchEngine:
    checkpoint = Checkpoint(colour_network(), colour_manifest())
    return TorchEngine(checkpoint, device=CPU, precision=precision, compiled=False)


def colour_inputs(count: int = 7) -> Tensor:
    pictures = [torch.from_numpy(picture_of(SIDE, SIDE, seed=seed)) for seed in range(count)]
    return torch.stack(pictures).permute(0, 3, 1, 2)


def test_labels_and_sums_match_a_brute_force() -> None:
    picture = picture_of(SIDE, SIDE, seed=3)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)
    logits = colour_engine().run(pixels[None], alone=True)[0]
    answer = segment_logits(logits, SIDE, SIDE)
    expected = expected_answer(picture)
    assert expected.clear.all()
    assert expected.agrees(answer.labels.numpy())
    assert answer.pixels.tolist() == expected.pixels
    means = answer.confidence / answer.pixels.clamp(min=1)
    assert means.tolist() == pytest.approx(expected.confidence, abs=1e-5)


@pytest.mark.parametrize("class_id", range(len(PAINT)))
def test_a_plain_colour_is_its_class_everywhere(class_id: int) -> None:
    paint = torch.from_numpy(PAINT[class_id]).view(1, 3, 1, 1).expand(1, 3, SIDE, SIDE)
    _, labels = winners(colour_engine().run(paint, alone=True)[0])
    assert (labels == class_id).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_come_in_the_networks_precision_without_a_graph(precision: str) -> None:
    logits = colour_engine(precision).run(colour_inputs(2), alone=True)
    assert logits.shape == (2, len(PAINT), SIDE, SIDE)
    assert logits.dtype == getattr(torch, precision)
    assert not logits.requires_grad


@pytest.mark.parametrize("precision", PRECISIONS)
def test_half_precision_agrees_with_full_on_clear_pictures(precision: str) -> None:
    inputs = colour_inputs()
    labels = winners(colour_engine(precision).run(inputs, alone=True).transpose(0, 1))[1]
    expected = winners(colour_engine().run(inputs, alone=True).transpose(0, 1))[1]
    assert (labels == expected).float().mean() >= 0.99


@pytest.mark.parametrize("name", list_architectures())
def test_every_architecture_answers_in_a_batch_as_alone(name: str) -> None:
    network = small_network(name)
    checkpoint = Checkpoint(network, manifest_for(network, name))
    engine = TorchEngine(checkpoint, device=CPU, precision="float32", compiled=False)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (5, 3, 64, 96), dtype=torch.uint8, generator=generator)
    together = engine.run(inputs, alone=True)
    alone = torch.cat([engine.run(image[None], alone=True) for image in inputs])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        logits = network.native_logits(normalise(inputs, checkpoint.manifest.input))
    torch.testing.assert_close(together, logits, rtol=1e-3, atol=1e-4)


def test_what_is_compiled_answers_at_the_same_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    network = small_network("unet_efficientnet_lite0")
    checkpoint = Checkpoint(network, manifest_for(network, "unet_efficientnet_lite0"))
    eager, compiled = (
        TorchEngine(checkpoint, device=CPU, precision="float32", compiled=each)
        for each in (False, True)
    )
    pixels = torch.full((1, 3, eager.spec.height, eager.spec.width), 77, dtype=torch.uint8)
    torch.testing.assert_close(
        compiled.run(pixels, alone=True), eager.run(pixels, alone=True), rtol=1e-3, atol=1e-4
    )


def test_warm_up_runs_passes_of_that_many_at_the_input_size() -> None:
    shapes: list[tuple[int, ...]] = []
    checkpoint = Checkpoint(colour_network(), colour_manifest(height=32, width=48))
    engine = TorchEngine(checkpoint, device=CPU, precision="float32", compiled=False)
    engine.network.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    engine.warm_up(5)
    assert set(shapes) == {(5, 3, 32, 48)}


def test_the_name_says_what_it_is() -> None:
    assert colour_engine("bfloat16").name == "torch bfloat16"
