"""Several processes, each with a share of every batch, started by torchrun."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.devices import choose_device
from trainer.errors import EXPECTED
from trainer.training.interrupt import StopRequested

logger = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)  # rank 0 may be long over an audit or a picture
HOLD_BACK_S = 10.0  # the first may be so much later than the others with the same error


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

    def together(self, work: Callable[[], T], device: torch.device) -> T:
        """What `work` returns, which must not wait for other processes itself.

        Where it fails on any of them, the failure of the lowest rank is raised on all: one that
        went on would wait for the others in vain.
        """
        if self.world == 1:
            return work()
        failure: BaseException | None = None
        try:
            result = work()
        except (*EXPECTED, StopRequested) as error:
            failure = error
        if self.any(failure is not None, device):
            raise next(each for each in self.gather(failure) if each is not None)
        return result

    def from_first(self, work: Callable[[], T], device: torch.device) -> T:
        """What `work` returns, or raises, on the first process; the others wait for it."""
        mine = self.together(lambda: work() if self.first else None, device)
        found: T = self.gather(mine)[0]
        return found


@contextmanager
def first_speaks() -> Iterator[None]:
    """An error that all processes end by is said by the first alone.

    torchrun ends the others when one has ended, so they hold back what they have to say and wait
    for that; a process that is left alone with its error says it after all.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0":
        yield
        return
    said = StringIO()
    try:
        with redirect_stderr(said):
            yield
    except SystemExit:
        if said.getvalue():
            time.sleep(HOLD_BACK_S)
            sys.stderr.write(said.getvalue())
        raise


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
