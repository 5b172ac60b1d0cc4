"""`fit`: one training run."""

import logging

from rich.console import Console

from trainer.config import FitConfig
from trainer.interrupt import Interrupt
from trainer.progress import Reporter
from trainer.run import Run

logger = logging.getLogger(__name__)


def fit(config: FitConfig) -> None:
    """Trains; Ctrl-C saves the state and says how to go on."""
    with Reporter(Console(stderr=True)) as reporter, Interrupt() as interrupt:
        try:
            Run(config, reporter, interrupt).execute()
        except KeyboardInterrupt:
            logger.warning("stopped; the same command with --resume goes on from here")
            raise
    logger.info("checkpoints, curves.png, metrics.csv and samples are in %s", config.out)
