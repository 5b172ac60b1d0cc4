"""The pictures that engines are compared on."""

from pathlib import Path

import pytest
import torch

from models.manifest import InputSpec
from service.engines.golden import PICTURES, agreement, golden_inputs, image_files
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


def test_agreement_is_the_share_of_equal_pixels() -> None:
    labels = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8)
    assert agreement(labels, torch.tensor([[0, 1], [2, 0]], dtype=torch.uint8)) == 0.75
