"""What each ingredient of the recipe brings: the same short run, with one choice changed at a time.

A run that was stopped goes on where it was, and one that is finished is only read.
"""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from models.devices import keep_freed_memory
from trainer.config import FitConfig
from trainer.console import plain_console
from trainer.distributed import join_processes
from trainer.progress import Reporter
from trainer.recipe import choose_recipe
from trainer.training.history import EpochRecord, read_history
from trainer.training.interrupt import Interrupt
from trainer.training.run import Run
from trainer.training.run_folder import RunFolder

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {}),
    "without Dice": ("standard", {"dice_weight": 0.0}),
    "without the average": ("standard", {"ema_decay": 0.0}),
    "images as they are": ("standard", {"augment": False}),
    "constant rate": ("standard", {"schedule": "constant"}),
    "without clipping": ("standard", {"clip_norm": 0.0}),
    "with class weights": ("standard", {"class_weights": "median_frequency"}),
    "report": ("report", {}),
}


def main(
    data: Annotated[Path, typer.Option(help="dataset folder")],
    out: Annotated[Path, typer.Option(help="folder for a run of each variant")],
    arch: str = "unet",
    base_channels: int = 16,
    image_size: str = "240x320",
    batch_size: int = 4,
    epochs: int = 8,
    only: Annotated[
        list[str] | None, typer.Option(help="a variant, repeatable; all by default")
    ] = None,
) -> None:
    """Trains every variant on the same number of images and prints the last epoch's figures."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    keep_freed_memory()
    rows = {}
    for name in only or VARIANTS:
        recipe, changes = VARIANTS[name]
        run = out / name.replace(" ", "-")
        config = FitConfig(
            data=data,
            arch=arch,
            out=run,
            recipe=choose_recipe(recipe, changes),
            base_channels=base_channels,
            image_size=image_size,
            batch_size=batch_size,
            epochs=epochs,
            validate_every=epochs,
            checkpoint_every=epochs,
            samples=0,
            resume=RunFolder(run).state_path.exists(),
        )
        rows[name] = _last_epoch(config)
    _show(rows)


def _last_epoch(config: FitConfig) -> EpochRecord:
    with (
        join_processes(config.device) as (processes, device),
        Reporter(plain_console(stderr=True)) as reporter,
        Interrupt() as interrupt,
    ):
        Run(config, reporter, interrupt, processes, device).execute()
    return read_history(config.out)[-1]


def _show(rows: dict[str, EpochRecord]) -> None:
    table = Table("", "mean IoU", "against standard", "pixel accuracy", "cross entropy")
    base = next(iter(rows.values())).val_mean_iou or 0.0
    for name, record in rows.items():
        mean_iou = record.val_mean_iou or 0.0
        table.add_row(
            name,
            f"{mean_iou:.4f}",
            f"{mean_iou - base:+.4f}",
            f"{record.val_accuracy:.4f}",
            f"{record.val_loss:.4f}",
        )
    plain_console().print(table)


if __name__ == "__main__":
    typer.run(main)
