"""The pictures that engines are compared on."""

from math import inf
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.manifest import InputSpec
from service.engines.golden import (
    PICTURES,
    NotFiniteError,
    agreement,
    golden_inputs,
    image_files,
    labels_of,
)
from service.errors import StartupError

SPEC = InputSpec(height=24, width=40, mean=(0.5,) * 3, std=(0.5,) * 3, stride=8)


def test_come_with_the_service_and_are_photographs() -> None:
    inputs = golden_inputs(None, SPEC)
    assert inputs.shape == (len(image_files(PICTURES)), 3, 24, 40)
    assert inputs.dtype == torch.uint8
    assert len(inputs) >= 4
    assert (inputs.float().flatten(1).std(1) > 20).all()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="missing"):
        golden_inputs(tmp_path / "missing", SPEC)


class Slow:
    """An engine whose passes last three seconds, by a clock of its own."""

    name, precision, lanes, device = "slow", "float32", 1, torch.device("cpu")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("service.engines.golden.time.perf_counter", lambda: self.now)

    def warm_up(self, count: int) -> None: ...

    def forget(self, count: int) -> None: ...

    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        self.now += 3
        return pixels[:, :2].float() / 255

    def close(self) -> None: ...


@pytest.mark.parametrize(("enough_s", "count"), [(1, 2), (8, 3), (100, 4), (inf, 4)])
def test_a_slow_network_is_compared_on_fewer(
    monkeypatch: pytest.MonkeyPatch, enough_s: float, count: int
) -> None:
    labels = labels_of(Slow(monkeypatch), golden_inputs(None, SPEC), enough_s=enough_s)
    assert labels.shape == (count, 24, 40)


class Overflowing(Slow):
    """One number of each answer is none."""

    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        logits = super().run(pixels, alone=alone)
        logits[:, 1, 2, 3] = torch.inf
        return logits


def test_a_network_that_computes_what_is_no_number_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NotFiniteError, match="not finite"):
        labels_of(Overflowing(monkeypatch), golden_inputs(None, SPEC))


def test_agreement_is_the_share_of_equal_pixels() -> None:
    labels = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8)
    assert agreement(labels, torch.tensor([[0, 1], [2, 0]], dtype=torch.uint8)) == 0.75
