"""How threads wait for an NVIDIA GPU."""

import logging
import threading
from typing import Any

import torch

logger = logging.getLogger(__name__)

recording = threading.Lock()  # held while a pass is recorded: nobody may wait for a whole GPU then


def wait_for_all(device: torch.device) -> None:
    """Until the GPU has done all that it was given, by whatever library."""
    with recording:
        torch.cuda.synchronize(device)


def let_threads_sleep(device: torch.device) -> None:
    """Whoever waits for the GPU from now on sleeps instead of watching it, in every library: with
    eight services on one card, watching took a third of what they took of the processor.

    For before the GPU is used; where the driver refuses, all stays as it was.
    """
    try:
        from cuda.bindings import driver

        _checked(driver.cuInit(0))
        gpu = _checked(driver.cuDeviceGet(device.index or 0))
        sleeping = int(driver.CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC)
        _checked(driver.cuDevicePrimaryCtxSetFlags(gpu, sleeping))
    except Exception as error:  # noqa: BLE001 - drivers raise anything
        logger.info("threads that wait for %s keep a core busy each: %s", device, error)


def _checked(answer: tuple[Any, ...]) -> Any:
    """What CUDA's bindings answer beside an error, which is 0 where there is none."""
    error, *found = answer
    if int(error):
        raise RuntimeError(str(error))
    return found[0] if found else None
