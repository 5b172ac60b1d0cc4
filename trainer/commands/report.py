"""`report`: the whole of a run in one HTML file."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from models import Checkpoint, load_checkpoint
from models.devices import choose_device
from trainer.config import FitConfig
from trainer.console import plain_console
from trainer.data.audit import audit_for_training
from trainer.data.dataset import VocFolder
from trainer.data.loader import loader_processes
from trainer.errors import ConfigError
from trainer.evaluation.evaluate import Evaluation, evaluate_network, require_same_classes
from trainer.evaluation.scores import WorstImages
from trainer.precision import Precision
from trainer.progress import Reporter
from trainer.report import RunSummary, step_mark, write_report
from trainer.training.history import read_history
from trainer.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


def report(run: Path, *, data: Path | None, device: str, worst: int) -> None:
    """Measures the best checkpoint of a run folder again and writes `report.html` there."""
    config = run_configuration(run)
    config = replace(config, out=run, data=data or config.data)
    with Reporter(plain_console(stderr=True)) as reporter:
        chosen = choose_device(device)
        workers = loader_processes(replace(config, workers=None), chosen)  # of this machine
        report_run(config, reporter, chosen, workers=workers, worst=worst)


def is_reported(run: Path) -> bool:
    """Whether the run has a page, and the page shows all of its epochs."""
    path = RunFolder(run).report_path
    if not path.exists():
        return False
    return step_mark(read_history(run)) in path.read_text(encoding="utf-8")


def report_run(
    config: FitConfig,
    reporter: Reporter,
    device: torch.device,
    *,
    workers: int,
    worst: int = 8,
    on_image: Callable[[], None] = lambda: None,
) -> None:
    """`on_image` is called after each image; what it raises ends the report."""
    run = RunFolder(config.out)
    best = load_checkpoint(run.best_path)
    folder = VocFolder.open(config.data, border=config.border)
    require_same_classes(best.manifest, folder, name=str(run.best_path))
    audit = audit_for_training(
        folder, config.train_split, config.val_split, limit=config.limit, cache=run.audit_path
    )
    worst_images = WorstImages(worst)
    evaluation = _measure(config, folder, best, reporter, device, workers, worst_images, on_image)
    path = write_report(
        RunSummary(
            run=run,
            config=config,
            history=read_history(run.path),
            folder=folder,
            audit=audit,
            best=best.manifest,
            last=load_checkpoint(run.last_path).manifest,
            evaluation=evaluation,
            worst=worst_images,
        )
    )
    logger.info("%s shows the run", path)


def _measure(
    config: FitConfig,
    folder: VocFolder,
    best: Checkpoint,
    reporter: Reporter,
    device: torch.device,
    workers: int,
    worst: WorstImages,
    on_image: Callable[[], None],
) -> Evaluation:
    ids = folder.split(config.val_split)[: config.limit]
    reporter.begin("measuring the best checkpoint", total=len(ids))

    def advance(*_: object) -> None:
        reporter.advance(1)
        on_image()

    return evaluate_network(
        best.network.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        folder,
        ids,
        best.manifest.input,
        Precision(device),
        workers=workers,
        on_image=advance,
        boundary=True,
        worst=worst,
    )


def run_configuration(run: Path) -> FitConfig:
    """What the run was settled to."""
    path = run / "config.json"
    try:
        return FitConfig.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"--run {run}: holds no config.json; is it a run folder?") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
