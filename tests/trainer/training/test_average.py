"""The moving average of the weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainer.training.average import averaged_copy


def network(*, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def train(net: nn.Module, averaged: AveragedModel, *, steps: range) -> list[dict[str, Tensor]]:
    """Weights at random and statistics of one batch more, step by step; returns each."""
    seen = []
    for step in steps:
        random = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.normal_(generator=random)
        net.train()(torch.randn(2, 3, 5, 5, generator=random))
        averaged.update_parameters(net)
        seen.append({key: value.clone() for key, value in net.state_dict().items()})
    return seen


def by_hand(seen: list[dict[str, Tensor]], *, decay: float) -> dict[str, Tensor]:
    """The first weights as they are; then the memory grows up to `decay`."""
    mean = {key: value.double() for key, value in seen[0].items()}
    for count, state in enumerate(seen[1:], start=1):
        keep = min(decay, (1 + count) / (10 + count))
        for key in mean:
            mean[key] = keep * mean[key] + (1 - keep) * state[key].double()
    return mean


def test_weights_and_batch_statistics_follow_slowly() -> None:
    for decay in (0.25, 0.999):  # the first is below the growing memory after three steps
        net = network()
        averaged = averaged_copy(net, decay)
        seen = train(net, averaged, steps=range(1, 13))
        ours, expected = averaged.module.state_dict(), by_hand(seen, decay=decay)
        compared = [key for key in ours if "num_batches" not in key]
        assert len(compared) == 6
        for key in compared:
            torch.testing.assert_close(ours[key].double(), expected[key], atol=1e-5, rtol=1e-5)
            assert not torch.equal(ours[key], seen[-1][key])


def test_a_count_is_copied() -> None:
    net = network()
    averaged = averaged_copy(net, 0.9)
    train(net, averaged, steps=range(1, 6))
    count = averaged.module.state_dict()["1.num_batches_tracked"]
    assert int(count) == 5
    assert count.dtype == torch.int64


def test_the_start_is_forgotten_soon() -> None:
    """With a fixed memory of 0.999, three quarters of the weights would be the random start."""
    net = network()
    averaged = averaged_copy(net, 0.999)
    train(net, averaged, steps=range(1, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(100.0)
    for _ in range(300):
        averaged.update_parameters(net)
    assert all(float(p.detach().min()) > 99 for p in averaged.module.parameters())


def test_the_copy_is_one() -> None:
    net = network()
    averaged = averaged_copy(net, 0.9)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    train(network(seed=1), averaged, steps=range(1, 4))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_it_goes_on_from_its_state_exactly() -> None:
    net = network()
    averaged = averaged_copy(net, 0.999)
    train(net, averaged, steps=range(1, 5))
    other, its_average = network(seed=1), averaged_copy(network(seed=2), 0.999)
    other.load_state_dict(net.state_dict())
    its_average.load_state_dict(averaged.state_dict())
    train(net, averaged, steps=range(5, 9))
    train(other, its_average, steps=range(5, 9))
    ours, theirs = averaged.state_dict(), its_average.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert int(ours["n_averaged"]) == 8
