"""The command line: `python -m trainer fit|evaluate|check|predict|export|report`."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from models.devices import keep_freed_memory
from trainer.commands.check import CheckOptions
from trainer.commands.check import check as check_command
from trainer.commands.evaluate import Outputs
from trainer.commands.evaluate import evaluate as evaluate_command
from trainer.commands.export import export as export_command
from trainer.commands.fit import fit as fit_command
from trainer.commands.predict import predict as predict_command
from trainer.commands.report import report as report_command
from trainer.config import FitConfig
from trainer.console import plain_console
from trainer.distributed import first_speaks
from trainer.errors import EXPECTED
from trainer.fit_options import fit_config, takes_fit_options
from trainer.path_option import path_option

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train and measure networks.")

Data = Annotated[Path, path_option("dataset folder in the layout of Pascal VOC")]
Checkpoint = Annotated[Path, path_option("a .pth, with or without its manifest beside it")]
Border = Annotated[
    str | None,
    typer.Option(help="VOC's border: 'class' makes it the 22nd class, 'ignore' leaves it out"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
Limit = Annotated[int | None, typer.Option(min=1, help="use only the first N images of each split")]


@app.command()
@takes_fit_options
def fit(**options: Any) -> None:
    """Trains a network on a folder of labelled images.

    Options without a default take the recipe's value.
    """
    fit_command(fit_config(options))


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    data: Data,
    split: str = "val",
    border: Border = None,
    classes: Annotated[
        str | None, typer.Option(help="also the mean IoU over these classes, comma-separated")
    ] = None,
    json: Annotated[Path | None, path_option("write the figures to this file")] = None,
    samples: Annotated[
        Path | None, path_option("draw image | label | result of each image into this folder")
    ] = None,
    pictures: Annotated[
        Path | None,
        path_option("draw confusion.png, classes.png and worst/ into this folder"),
    ] = None,
    worst: Annotated[
        int, typer.Option(help="images of the lowest IoU to draw with --pictures")
    ] = Outputs.worst,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="also measure the mean of mirrored and rescaled looks"),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    device: Device = "auto",
    limit: Limit = None,
) -> None:
    """Measures a checkpoint on a split, in float32, at the labels' own resolution.

    Pictures and samples show what the network answers without --tta, as the service does.
    """
    evaluate_command(
        checkpoint,
        data,
        split,
        border=border,
        classes=classes,
        tta=tta,
        outputs=Outputs(json=json, samples=samples, pictures=pictures, worst=worst),
        batch_size=batch_size,
        device=device,
        limit=limit,
    )


@app.command()
def check(
    data: Data,
    split: Annotated[
        list[str] | None, typer.Option(help="a split to check, repeatable; all by default")
    ] = None,
    train_split: str = FitConfig.train_split,
    val_split: str = FitConfig.val_split,
    border: Border = None,
    limit: Limit = None,
    near_duplicates: Annotated[
        int,
        typer.Option(
            min=-1,
            max=32,
            help="bits of 64 that the hashes of a pair may differ in; -1: look for none",
        ),
    ] = CheckOptions.near_duplicates,
    pictures: Annotated[
        Path | None, path_option("draw classes, sizes, masks and pairs into this folder")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, max=200, help="images of each split drawn with --pictures")
    ] = CheckOptions.samples,
    json: Annotated[Path | None, path_option("write the findings to this file")] = None,
) -> None:
    """Audits a dataset: sizes, counts, class shares, and what `fit` would stumble over."""
    options = CheckOptions(
        data=data,
        splits=split or [],
        train_split=train_split,
        val_split=val_split,
        border=border,
        limit=limit,
        near_duplicates=near_duplicates,
        pictures=pictures,
        samples=samples,
        json=json,
    )
    if not check_command(options):
        raise typer.Exit(1)


@app.command()
def predict(
    checkpoint: Checkpoint,
    images: Annotated[Path, path_option("folder of images")],
    out: Annotated[Path, path_option("folder for the masks; made if absent")],
    device: Device = "auto",
) -> None:
    """Writes an indexed PNG mask for every image of a folder."""
    if predict_command(checkpoint, images, out, device=device):
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[Path, path_option("run folder")],
    data: Annotated[Path | None, path_option("where the dataset is now, if moved")] = None,
    device: Device = "auto",
    worst: Annotated[int, typer.Option(min=0, help="how many of the worst images to show")] = 8,
) -> None:
    """Writes report.html into a run folder: curves, classes, confusion, samples, worst, data."""
    report_command(run, data=data, device=device, worst=worst)


@app.command()
def export(
    checkpoint: Checkpoint,
    format: Annotated[str, typer.Option(help="onnx, openvino, openvino-int8 or torch")],
    out: Annotated[Path, path_option("a .onnx, .xml or .pt2; a .json is put beside it")],
    data: Annotated[
        Path | None, path_option("dataset folder to compare on; noise without it")
    ] = None,
    split: str = "val",
    border: Border = None,
    limit: Limit = None,
    calibration_split: Annotated[
        str, typer.Option(help="split that int8 ranges are taken from")
    ] = "train",
    calibration_images: Annotated[int, typer.Option(min=1)] = 300,
    min_agreement: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="share of pixels that must keep their class"),
    ] = None,
    max_iou_drop: Annotated[
        float | None, typer.Option(min=0, max=1, help="mean IoU the file may lose")
    ] = None,
) -> None:
    """Writes a checkpoint in another format, if the file gives the checkpoint's answers."""
    export_command(
        checkpoint,
        format,
        out,
        data=data,
        split=split,
        border=border,
        limit=limit,
        calibration_split=calibration_split,
        calibration_images=calibration_images,
        min_agreement=min_agreement,
        max_iou_drop=max_iou_drop,
    )


def main() -> None:
    """Runs a command; what went wrong is one line on stderr and exit status 1."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    keep_freed_memory()
    console = plain_console(stderr=True, soft_wrap=True)
    status = 0
    with first_speaks():
        try:
            app()
        except EXPECTED as error:
            console.print(f"error: {error}", style="red")
            status = 1
        except KeyboardInterrupt:
            status = 130
        # not above, where the error keeps alive what it came through: worker processes would be
        # waited for when they cannot be told to end any more
        sys.exit(status)


if __name__ == "__main__":
    main()
