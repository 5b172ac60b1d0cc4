"""`state.pt`: what a resumed run starts from."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel

from trainer.errors import ConfigError
from trainer.training.average import averaged_copy
from trainer.training.history import EpochRecord
from trainer.training.loop import RunningTotals
from trainer.training.state import Progress, load_state, restore, save_state

PROGRESS = Progress(
    epoch=3,
    batches=2,
    step=17,
    totals=RunningTotals(
        objective=0.1 + 0.2, cross_entropy=1.25, images=4, correct=90, labelled=100
    ),
    started="2024-01-01T00:00:00+00:00",
    command="python -m trainer fit",
    history=[
        EpochRecord(1, 5, 1e-3, 0.1, 0.15, 0.2, 0.3, 0.4, float("-inf")),
        EpochRecord(2, 10, 1e-3, 0.1, 0.15, 0.2, None, None, None),
    ],
)


def trained(*, seed: int, steps: int) -> tuple[nn.Module, AveragedModel, Adam]:
    """A network with batch norm, its average, and an optimizer that has moments."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    averaged = averaged_copy(network, 0.9)
    optimizer = Adam(network.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(2, 3, 5, 5)).square().sum().backward()
        optimizer.step()
        averaged.update_parameters(network)
    return network, averaged, optimizer


def test_everything_comes_back(tmp_path: Path) -> None:
    network, averaged, optimizer = trained(seed=0, steps=3)
    path = tmp_path / "state.pt"
    save_state(path, network, averaged, optimizer, PROGRESS, '{"a": 1}', "data")
    expected_draw = torch.rand(5)

    other, its_average, its_optimizer = trained(seed=1, steps=1)
    state = load_state(path)
    progress = restore(state, other, its_average, its_optimizer)
    assert torch.equal(torch.rand(5), expected_draw)
    assert progress == PROGRESS
    assert state["config"] == '{"a": 1}'
    ours, theirs = network.state_dict(), other.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    ours, theirs = averaged.state_dict(), its_average.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    first, second = optimizer.state_dict(), its_optimizer.state_dict()
    assert first["param_groups"] == second["param_groups"]
    assert all(
        torch.equal(torch.as_tensor(first["state"][i][key]), torch.as_tensor(values[key]))
        for i, values in second["state"].items()
        for key in values
    )


def test_a_failed_save_leaves_the_state_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, averaged, optimizer = trained(seed=0, steps=1)
    path = tmp_path / "state.pt"
    save_state(path, network, averaged, optimizer, PROGRESS, "first", "data")

    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_state(path, network, averaged, optimizer, PROGRESS, "second", "data")
    assert load_state(path)["config"] == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.pt"]


def test_a_run_without_an_average_comes_back_without(tmp_path: Path) -> None:
    network, _, optimizer = trained(seed=0, steps=1)
    save_state(tmp_path / "state.pt", network, None, optimizer, PROGRESS, "{}", "data")
    other, _, its_optimizer = trained(seed=1, steps=1)
    restore(load_state(tmp_path / "state.pt"), other, None, its_optimizer)
    ours, theirs = network.state_dict(), other.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_an_absent_state_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*state\.pt; start without --resume"):
        load_state(tmp_path / "state.pt")


class Bomb:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_the_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"config": Bomb(tmp_path / "owned")}, path)
    with pytest.raises(ConfigError, match=r"state\.pt cannot be read") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kept", [0, 10, 500, -40])
def test_a_damaged_state_is_refused_in_one_line(kept: int, tmp_path: Path) -> None:
    network, averaged, optimizer = trained(seed=0, steps=1)
    path = tmp_path / "state.pt"
    save_state(path, network, averaged, optimizer, PROGRESS, "{}", "data")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"--resume: .*state\.pt") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"a": torch.zeros(2)}, [1, 2], torch.zeros(3), {}])
def test_another_kind_of_file_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save(content, path)
    network, averaged, optimizer = trained(seed=0, steps=1)
    with pytest.raises(ConfigError, match=r"state\.pt"):
        restore(load_state(path), network, averaged, optimizer)
