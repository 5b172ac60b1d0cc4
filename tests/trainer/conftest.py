"""What the trainer's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.voc_folder import make_voc_folder


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads, and much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def run_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images in `train` (four batches of two, the last one of one), two in `val`."""
    return make_voc_folder(tmp_path_factory.mktemp("data") / "voc", count=9, seed=0)
