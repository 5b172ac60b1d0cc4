"""Several processes, each with a share of every batch, started by torchrun."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.devices import choose_device

logger = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=30)  # rank 0 may be long over an audit or a picture


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes. Each process has its own loss of the sum, so the
    gradient of a share is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


@dataclass(frozen=True)
class Processes:
    """This process among all of them; with one alone every operation does nothing."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share_of(self, items: list[str]) -> list[str]:
        """This process's part; those of all processes are the whole, each item once."""
        return items[self.rank :: self.world]

    def share_norms(self, network: nn.Module, device: torch.device) -> None:
        """Batch statistics over all processes, in place, which PyTorch can do on GPUs alone; on the
        CPU each process normalises its own share."""
        if self.world == 1:
            return
        if device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        else:
            logger.info(
                "%d processes: each normalises its own share of a batch, as PyTorch has no "
                "synchronised batch norm for %s",
                self.world,
                device.type,
            )

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The module whose gradients are the mean over all processes."""
        if self.world == 1:
            return network
        return DistributedDataParallel(network, [device] if device.type == "cuda" else None)

    def total(self, sums: Tensor) -> Tensor:
        """The sum over all processes, on each; the gradient goes the same way back."""
        if self.world == 1:
            return sums
        total: Tensor = _Sum.apply(sums)
        return total

    def any(self, mine: bool, device: torch.device) -> bool:
        """Whether it holds for any process."""
        if self.world == 1:
            return mine
        return bool(self.total(torch.tensor(float(mine), device=device)) > 0)

    def share_state(self, module: nn.Module) -> None:
        """Rank 0's weights and batch statistics on every process."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)

    def gather(self, mine: Any) -> list[Any]:
        """Every process's object, in rank order, on each."""
        if self.world == 1:
            return [mine]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, mine)
        return found

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def join_processes(device: str) -> Iterator[tuple[Processes, torch.device]]:
    """The processes torchrun started, or this one alone, and the device of this one.

    "auto" and "cuda" become this process's own GPU. NCCL joins GPUs, gloo everything else.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(), choose_device(device)
        return
    chosen = choose_device(device)
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), world), chosen
    finally:
        dist.destroy_process_group()
