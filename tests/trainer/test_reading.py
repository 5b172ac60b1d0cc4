"""What goes wrong in a worker process, as the reader of its batches sees it."""

from multiprocessing import active_children

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from models.errors import ModelError
from trainer.errors import DatasetError, TrainerError, WorkerError
from trainer.reading import read_batches


class Numbers(Dataset[Tensor]):
    """Four of them; the third is a failure."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        if self.failure is not None and index == 2:
            raise self.failure
        return torch.tensor(index)


def read(failure: Exception | None, *, workers: int) -> list[float]:
    loader = DataLoader(Numbers(failure), batch_size=None, num_workers=workers)
    return [float(number) for number in read_batches(loader)]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_as_they_are(workers: int) -> None:
    assert read(None, workers=workers) == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "failure", [DatasetError("a.png: broken"), ModelError("b: is: no"), OSError("disk: away")]
)
def test_an_error_says_the_same_with_and_without_workers(failure: Exception, workers: int) -> None:
    with pytest.raises(type(failure)) as raised:
        read(failure, workers=workers)
    assert str(raised.value) == str(failure)


def test_a_programming_error_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="in __getitem__"):
        read(RuntimeError("a bug"), workers=1)


def test_a_killed_worker_is_noticed_by_the_reader_alone() -> None:
    batches = read_batches(DataLoader(Numbers(), batch_size=None, num_workers=1, prefetch_factor=1))
    next(batches)
    for process in active_children():
        process.kill()
        process.join()  # nothing is raised here
    with pytest.raises(WorkerError, match="fewer --workers"):
        list(batches)


def test_errors_are_shown_as_they_were_raised() -> None:
    assert str(TrainerError("Caught a cold")) == "Caught a cold"
