"""`fit`: one training run."""

import logging
from dataclasses import replace

from trainer.commands.report import is_reported, report_run, run_configuration
from trainer.config import FitConfig
from trainer.console import plain_console
from trainer.data.loader import loader_processes
from trainer.distributed import join_processes
from trainer.errors import WorkerError
from trainer.progress import Reporter
from trainer.training.interrupt import Interrupt
from trainer.training.run import Run
from trainer.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


def fit(config: FitConfig) -> None:
    """Trains; Ctrl-C saves the state and says how to go on."""
    # outermost, because torchrun stops the first, too, when another has ended by the same error
    with Interrupt() as interrupt, join_processes(config.device) as (processes, device):
        if not processes.first:
            logging.getLogger().setLevel(logging.WARNING)
        console = plain_console(stderr=True, quiet=not processes.first)
        with Reporter(console) as reporter:
            try:
                trained = Run(config, reporter, interrupt, processes, device).execute()
                if config.report and processes.first and (trained or not is_reported(config.out)):
                    settled = replace(run_configuration(config.out), out=config.out)
                    workers = loader_processes(config, device)
                    report_run(settled, reporter, device, workers=workers, on_image=interrupt.check)
            except (KeyboardInterrupt, WorkerError):
                if processes.first and RunFolder(config.out).state_path.exists():
                    logger.warning("stopped; the same command with --resume goes on from here")
                raise
        logger.info("checkpoints, curves.png, metrics.csv and samples are in %s", config.out)
