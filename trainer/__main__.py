"""The command line: `python -m trainer fit|evaluate|check|predict|export`."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from models.devices import keep_freed_memory
from models.errors import ModelError
from models.manifest import Dtype
from trainer.commands.check import check as check_command
from trainer.commands.evaluate import evaluate as evaluate_command
from trainer.commands.export import export as export_command
from trainer.commands.fit import fit as fit_command
from trainer.commands.predict import predict as predict_command
from trainer.config import FitConfig
from trainer.errors import TrainerError
from trainer.recipe import choose_recipe

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train and measure networks.")

Data = Annotated[Path, typer.Option(help="dataset folder in the layout of Pascal VOC")]
Checkpoint = Annotated[Path, typer.Option(help="a .pth, with or without its manifest beside it")]
Border = Annotated[
    str | None,
    typer.Option(help="VOC's border: 'class' makes it the 22nd class, 'ignore' leaves it out"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
Limit = Annotated[int | None, typer.Option(min=1, help="use only the first N images of each split")]


@app.command()
def fit(
    data: Data,
    arch: Annotated[str, typer.Option(help="unet, unet_resnet50 or unet_efficientnet_lite0")],
    out: Annotated[Path, typer.Option(help="run folder; made if absent")],
    train_split: str = FitConfig.train_split,
    val_split: str = FitConfig.val_split,
    recipe: Annotated[str, typer.Option(help="'report' or 'finetune'")] = "report",
    epochs: int = FitConfig.epochs,
    batch_size: int = FitConfig.batch_size,
    image_size: Annotated[
        int, typer.Option(help="height and width of the network's input")
    ] = FitConfig.image_size,
    base_channels: Annotated[
        int, typer.Option(help="width of the network; 64 is the published one")
    ] = FitConfig.base_channels,
    border: Border = None,
    init: Annotated[Path | None, typer.Option(help="checkpoint to start from")] = None,
    encoder_weights: Annotated[
        str | None, typer.Option(help="'imagenet' or a classifier's .pth for the encoder")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    seed: int = FitConfig.seed,
    device: Device = FitConfig.device,
    precision: Annotated[
        str, typer.Option(help="auto (bfloat16 where the hardware has it), float32, bfloat16")
    ] = FitConfig.precision,
    limit: Limit = None,
    workers: Annotated[
        int | None, typer.Option(help="processes that prepare images; chosen by default")
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option(help="epochs between kept checkpoints and sample pictures")
    ] = FitConfig.checkpoint_every,
    weights_dtype: Annotated[
        Dtype, typer.Option(help="precision of the stored weights: float32, float16, bfloat16")
    ] = FitConfig.weights_dtype,
    samples: Annotated[
        int, typer.Option(help="validation images drawn with each kept checkpoint")
    ] = FitConfig.samples,
    optimizer: Annotated[str | None, typer.Option(help="adam or adamw")] = None,
    lr: Annotated[float | None, typer.Option(help="learning rate")] = None,
    encoder_lr: Annotated[
        float | None, typer.Option(help="learning rate of a pretrained encoder")
    ] = None,
    weight_decay: float | None = None,
    schedule: Annotated[str | None, typer.Option(help="constant or poly")] = None,
    warmup_steps: int | None = None,
    augment: Annotated[
        bool | None,
        typer.Option("--augment/--no-augment", help="random scale, crop, flip and colour"),
    ] = None,
) -> None:
    """Trains a network on a folder of labelled images.

    Options without a default take the recipe's value.
    """
    overrides: dict[str, object] = {
        "optimizer": optimizer,
        "lr": lr,
        "encoder_lr": encoder_lr,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "warmup_steps": warmup_steps,
        "augment": augment,
    }
    config = FitConfig(
        data=data,
        arch=arch,
        out=out,
        recipe=choose_recipe(recipe, overrides),
        train_split=train_split,
        val_split=val_split,
        epochs=epochs,
        batch_size=batch_size,
        image_size=image_size,
        base_channels=base_channels,
        border=border,
        init=init,
        encoder_weights=encoder_weights,
        resume=resume,
        seed=seed,
        device=device,
        precision=precision,
        limit=limit,
        workers=workers,
        checkpoint_every=checkpoint_every,
        weights_dtype=weights_dtype,
        samples=samples,
    )
    fit_command(config)


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    data: Data,
    split: str = "val",
    border: Border = None,
    classes: Annotated[
        str | None, typer.Option(help="also the mean IoU over these classes, comma-separated")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="write the figures to this file")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="draw image | label | result of each image into this folder")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    device: Device = "auto",
    limit: Limit = None,
) -> None:
    """Measures a checkpoint on a split, in float32, at the labels' own resolution."""
    evaluate_command(
        checkpoint,
        data,
        split,
        border=border,
        classes=classes,
        json_path=json,
        samples=samples,
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
    border: Border = None,
    limit: Limit = None,
) -> None:
    """Audits a dataset: sizes, counts, class shares, and what `fit` would stumble over."""
    if not check_command(data, split, border=border, limit=limit):
        raise typer.Exit(1)


@app.command()
def predict(
    checkpoint: Checkpoint,
    images: Annotated[Path, typer.Option(help="folder of images")],
    out: Annotated[Path, typer.Option(help="folder for the masks; made if absent")],
    device: Device = "auto",
) -> None:
    """Writes an indexed PNG mask for every image of a folder."""
    if predict_command(checkpoint, images, out, device=device):
        raise typer.Exit(1)


@app.command()
def export(
    checkpoint: Checkpoint,
    format: Annotated[str, typer.Option(help="onnx, openvino, openvino-int8 or torch")],
    out: Annotated[Path, typer.Option(help="a .onnx, .xml or .pt2; a .json is put beside it")],
    data: Annotated[
        Path | None, typer.Option(help="dataset folder to compare on; noise without it")
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
    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        app()
    except (TrainerError, ModelError, OSError) as error:
        console.print(f"error: {error}", style="red")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
