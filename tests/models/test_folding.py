"""A network whose batch norms are part of its convolutions answers as it did."""

import copy

import pytest
import torch
from torch import Tensor, nn

from models import list_architectures
from models.folding import folded
from models.network import SegmentationNetwork
from tests.networks import random_images, small_network

SIZES = [(64, 64), (65, 97), (33, 47), (32, 256)]


def unlike_fresh(name: str) -> SegmentationNetwork:
    """Every batch norm turns its channels about, some of them upside down."""
    network = small_network(name)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            with torch.no_grad():
                module.running_mean.normal_(0, 0.5, generator=generator)
                module.running_var.uniform_(0.2, 3, generator=generator)
                module.weight.normal_(1, 0.5, generator=generator)
                module.bias.normal_(0, 0.5, generator=generator)
    return network


def norms(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


def answers(network: nn.Module, names: list[str], size: tuple[int, int]) -> list[Tensor]:
    """The network's, and what comes out where the batch norms are or were: what one of them does
    hardly shows in the end."""
    found: list[Tensor] = []
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: found.append(output.clone())  # ReLUs work in place
        )
        for name in names
    ]
    with torch.no_grad():
        found.append(network(random_images(2, 3, *size)))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", list_architectures())
def test_every_architecture_answers_as_before(name: str, size: tuple[int, int]) -> None:
    network = unlike_fresh(name)
    names = norms(network)
    expected, found = (answers(each, names, size) for each in (network, folded(network)))
    assert len(found) == len(expected) >= len(names)
    for before, after in zip(expected, found, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.std()))


@pytest.mark.parametrize("name", list_architectures())
def test_no_batch_norm_is_left(name: str) -> None:
    network = unlike_fresh(name)
    assert norms(network)
    assert not norms(folded(network))


@pytest.mark.parametrize("name", list_architectures())
def test_the_network_itself_stays_as_it_is(name: str) -> None:
    network = unlike_fresh(name).train()
    before = copy.deepcopy(network.state_dict())
    folded(network)
    assert network.training
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
