"""The device: right answers, whoever shares the pass."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import Checkpoint, ModelError, list_architectures
from models.upsample import Segmentation
from service.engine import Engine, Unit
from tests.networks import manifest_for, small_network
from tests.service.clients import ROOT
from tests.service.colours import (
    PAINT,
    SIDE,
    colour_manifest,
    colour_network,
    expected_answer,
    picture_of,
)

SIZES = [(32, 32), (7, 91), (64, 40), (1, 1), (200, 33), (45, 120), (31, 2)]


def colour_engine(precision: str = "float32") -> Engine:
    checkpoint = Checkpoint(colour_network(), colour_manifest())
    return Engine(checkpoint, device="cpu", precision=precision)


def colour_units() -> list[Unit]:
    """Grids of paint at the network's size, each to be answered at another size."""
    units = []
    for seed, (height, width) in enumerate(SIZES):
        picture = torch.from_numpy(picture_of(SIDE, SIDE, seed=seed)).permute(2, 0, 1)
        units.append(Unit(picture, height, width))
    return units


def agreement(first: list[Segmentation], second: list[Segmentation]) -> float:
    pairs = list(zip(first, second, strict=True))
    same = sum(int((one.labels == other.labels).sum()) for one, other in pairs)
    return same / sum(one.labels.numel() for one, _ in pairs)


class TestAnswers:
    def test_labels_and_sums_match_a_brute_force(self) -> None:
        picture = picture_of(SIDE, SIDE, seed=3)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)
        answer = colour_engine().run([Unit(pixels, SIDE, SIDE)])[0]
        expected = expected_answer(picture)
        assert answer.labels.dtype == torch.uint8
        assert expected.clear.all()
        assert expected.agrees(answer.labels.numpy())
        assert answer.pixels.tolist() == expected.pixels
        means = answer.confidence / answer.pixels.clamp(min=1)
        assert means.tolist() == pytest.approx(expected.confidence, abs=1e-5)

    @pytest.mark.parametrize("class_id", range(len(PAINT)))
    def test_a_plain_colour_is_its_class_everywhere(self, class_id: int) -> None:
        paint = torch.from_numpy(PAINT[class_id]).view(3, 1, 1).expand(3, SIDE, SIDE)
        answer = colour_engine().run([Unit(paint, 17, 23)])[0]
        assert answer.labels.shape == (17, 23)
        assert answer.pixels.tolist() == [17 * 23 * (index == class_id) for index in range(4)]

    def test_every_unit_is_answered_at_its_own_size(self) -> None:
        answers = colour_engine().run(colour_units())
        assert [tuple(answer.labels.shape) for answer in answers] == SIZES
        assert [int(answer.pixels.sum()) for answer in answers] == [h * w for h, w in SIZES]


class TestBatching:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_batch_answers_as_each_alone(self, precision: str) -> None:
        engine, units = colour_engine(precision), colour_units()
        together = engine.run(units)
        alone = [engine.run([unit])[0] for unit in units]
        if precision == "float32":
            assert agreement(together, alone) == 1.0
        else:
            assert agreement(together, alone) >= 0.999
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one.confidence, other.confidence, rtol=1e-2, atol=0.5)

    @pytest.mark.parametrize("name", list_architectures())
    def test_every_architecture_answers_in_a_batch_as_alone(self, name: str) -> None:
        network = small_network(name)
        engine = Engine(
            Checkpoint(network, manifest_for(network, name)), device="cpu", precision="float32"
        )
        generator = torch.Generator().manual_seed(0)
        units = [
            Unit(torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=generator), h, w)
            for h, w in SIZES
        ]
        alone = [engine.run([unit])[0] for unit in units]
        assert agreement(engine.run(units), alone) >= 0.999

    def test_half_precision_agrees_with_full_on_clear_pictures(self) -> None:
        units = colour_units()
        half, full = colour_engine("bfloat16").run(units), colour_engine("float32").run(units)
        assert agreement(half, full) >= 0.99


class TestSetup:
    def test_precision_is_what_was_asked_for(self) -> None:
        assert colour_engine("bfloat16").bf16
        assert not colour_engine("float32").bf16

    def test_automatic_precision_follows_the_hardware(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for fast in (True, False):
            monkeypatch.setattr("models.devices.has_fast_bf16", lambda device, fast=fast: fast)
            assert colour_engine("auto").bf16 is fast

    def test_a_device_that_is_not_there_is_named(self) -> None:
        checkpoint = Checkpoint(colour_network(), colour_manifest())
        with pytest.raises(ModelError, match="'abacus'"):
            Engine(checkpoint, device="abacus", precision="auto")

    def test_warm_up_runs_single_and_shared_passes_at_the_input_size(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shapes: list[tuple[int, ...]] = []
        engine = Engine(
            Checkpoint(colour_network(), colour_manifest(height=32, width=48)),
            device="cpu",
            precision="float32",
        )
        engine.network.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
        engine.warm_up()
        assert shapes == [(1, 3, 32, 48), (2, 3, 32, 48)]

    def test_answers_carry_no_autograd_graph(self) -> None:
        answer = colour_engine().run(colour_units()[:1])[0]
        assert not answer.confidence.requires_grad


PEAK_GROWTH = """
import resource, torch
from models.upsample import segment_logits
torch.set_num_threads(1)
logits = torch.randn(22, 32, 32)
segment_logits(logits, 64, 64)  # loads what is loaded once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
segment_logits(logits, {height}, {width})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize(("height", "width"), [(3000, 1000), (1, 3_000_000), (3_000_000, 1)])
def test_memory_follows_the_strip_whatever_the_shape_of_the_image(height: int, width: int) -> None:
    """3 megapixels: a strip is 32 MiB of logits, the whole 252 MiB, with copies 750 MiB."""
    script = PEAK_GROWTH.format(height=height, width=width)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(ROOT), capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 220
