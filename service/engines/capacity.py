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
from service.engines.engine import Engine

logger = logging.getLogger(__name__)

WORTHWHILE = 1.05  # how much faster per image twice as many must be, and
WORTHWHILE_ON_CPU = 1.15  # where shorter passes, and all else there is to do, fill its cores better
MAX_SECONDS = 1.0  # a pass that takes longer would make everybody else wait
PASSES = 2  # of every lane in a turn
TURNS = 5
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
    of network input and as long as it succeeds. Passes of at most that many are warm afterwards.
    `require_going_on` is asked before each number and raises to end it."""
    worthwhile = WORTHWHILE_ON_CPU if engine.device.type == "cpu" else WORTHWHILE
    require_going_on()
    engine.warm_up(1)
    best, (speed,) = 1, _images_per_s(engine, spec, 1)
    while speed > 0:
        require_going_on()
        count = 2 * best
        pass_s = engine.lanes * count / speed  # while every lane has one
        if count * spec.height * spec.width > max_pixels or pass_s > MAX_SECONDS:
            break
        try:
            engine.warm_up(count)
            slower, faster = _images_per_s(engine, spec, best, count)
        except Exception as error:  # noqa: BLE001 - of the runtime, logged
            # mostly for want of memory, for which runtimes have too many words
            logger.warning("passes hold %d, since one of %d images failed: %s", best, count, error)
            engine.forget(count)
            break
        if faster < worthwhile * slower:
            engine.forget(count)
            break
        best, speed = count, faster
    return best


def _images_per_s(engine: Engine, spec: InputSpec, *counts: int) -> list[float]:
    """With every lane busy, as under load: a pass by itself has other cores and caches, and what
    makes it faster may make all of them slower. The best of a few turns, in which all have one:
    what else the machine does, and how fast it is, changes meanwhile."""
    passes = PASSES * engine.lanes
    took: list[list[float]] = [[] for _ in counts]
    with ThreadPoolExecutor(engine.lanes) as lanes:

        def run(count: int) -> float:
            blank = torch.zeros(count, 3, spec.height, spec.width, dtype=torch.uint8)
            began = time.perf_counter()
            for answer in [lanes.submit(engine.run, blank, alone=False) for _ in range(passes)]:
                answer.result()
            return time.perf_counter() - began

        while len(took[0]) < TURNS and sum(took[0]) < ENOUGH_SECONDS:
            for count, seconds in zip(counts, took, strict=True):
                if len(counts) > 1:
                    run(count)  # the others' weights are in the caches
                seconds.append(run(count))
    return [passes * count / min(seconds) for count, seconds in zip(counts, took, strict=True)]
