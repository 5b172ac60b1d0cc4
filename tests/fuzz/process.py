"""What a worker's process does: starts the app and asks it."""

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from tests.fuzz.asking import asking
from tests.fuzz.case import make_case
from tests.fuzz.seeds import make_seeds
from tests.fuzz.worker import Plan


def answer(connection: Connection, plan: Plan, numbers: Sequence[int]) -> None:
    """Every case of `numbers`, in this process."""
    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff comments on every file
    asyncio.run(_answer(connection, plan, numbers))


async def _answer(connection: Connection, plan: Plan, numbers: Sequence[int]) -> None:
    seeds = make_seeds(plan.data)
    with tempfile.TemporaryDirectory() as folder:
        async with asking(Path(folder)) as asker:
            for number in numbers:
                outcome = await asker.outcome(make_case(plan.seed, number, seeds))
                connection.send(outcome)
    connection.close()
