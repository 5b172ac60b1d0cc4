"""How many images a pass should hold: as many as make it faster per image.

Passes hold 1, 2, 4, 8... images and no other number, since engines prepare for each: a dozen
numbers are prepared at the start, and no request waits until a network is compiled for it.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from models.manifest import InputSpec
from service.engines.engine import Engine, is_out_of_memory

logger = logging.getLogger(__name__)

WORTHWHILE = 1.05  # how much faster per image twice as many must be
MAX_SECONDS = 1.0  # a pass that takes longer would make everybody else wait
PASSES = 2  # of every lane in a turn
TURNS = 3
ENOUGH_SECONDS = 0.2  # of passes of one size: turns of slow ones are not repeated


def pass_size(count: int) -> int:
    """The largest number of images, at most `count`, that a pass may hold."""
    return 1 << (count.bit_length() - 1)


def pass_sizes(capacity: int) -> list[int]:
    """Every number of images that a pass of at most `capacity` may hold."""
    return [1 << power for power in range(capacity.bit_length())]


def find_capacity(
    engine: Engine,
    spec: InputSpec,
    *,
    max_pixels: int,
    require_going_on: Callable[[], None] = lambda: None,
) -> int:
    """Doubles the images of a pass while that brings more of them a second, within `max_pixels`
    of network input and the device's memory. Passes of at most that many are warm afterwards.
    `require_going_on` is asked before each number and raises to end it."""
    require_going_on()
    best, count, speed = 1, 1, _images_per_s(engine, spec, 1)
    while speed > 0:
        require_going_on()
        count *= 2
        pass_s = engine.lanes * count / speed  # while every lane has one
        if count * spec.height * spec.width > max_pixels or pass_s > MAX_SECONDS:
            break
        try:
            faster = _images_per_s(engine, spec, count)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            logger.info("%d images a pass do not fit the memory", count)
            engine.forget(count)
            break
        if faster < WORTHWHILE * speed:
            engine.forget(count)
            break
        best, speed = count, faster
    return best


def _images_per_s(engine: Engine, spec: InputSpec, count: int) -> float:
    """With every lane busy, as under load: a pass by itself has other cores and caches, and what
    makes it faster may make all of them slower. The best of a few turns, as when others run
    beside it."""
    engine.warm_up(count)
    blank = torch.zeros(count, 3, spec.height, spec.width, dtype=torch.uint8)
    passes = PASSES * engine.lanes
    took: list[float] = []
    with ThreadPoolExecutor(engine.lanes) as lanes:
        while len(took) < TURNS and sum(took) < ENOUGH_SECONDS:
            began = time.perf_counter()
            for answer in [lanes.submit(engine.run, blank, alone=False) for _ in range(passes)]:
                answer.result()
            took.append(time.perf_counter() - began)
    return passes * count / min(took)
