"""Images a second in training, against a plain loop with the same network and images.

Both ways take turns within one run, so that what else the machine does strikes them alike; the
medians over the turns are compared.
"""

import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table
from torch import Tensor, nn

from benchmarks.photographs import make_photographs
from benchmarks.plain_loop import PlainLoop
from models import build
from models.devices import choose_device, keep_freed_memory, use_bf16
from models.manifest import InputSpec
from trainer.config import FitConfig
from trainer.console import plain_console
from trainer.data.dataset import VocFolder
from trainer.data.loader import TrainingLoader
from trainer.distributed import Processes
from trainer.losses import SegmentationLoss
from trainer.precision import Precision
from trainer.recipe import choose_recipe
from trainer.training.average import averaged_copy
from trainer.training.loop import Learner, set_training, train_step
from trainer.training.optimise import build_optimizer

Batches = Iterator[tuple[Tensor, Tensor]]
Step = Callable[[Tensor, Tensor], object]

logger = logging.getLogger(__name__)


@dataclass
class Way:
    """One way of training, and what was measured of it: seconds in each turn."""

    name: str
    batches: Batches
    step: Step
    waiting: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)

    def turn(self, steps: int, device: torch.device) -> None:
        waited, began = 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(self.batches)
            waited += time.perf_counter() - asked
            self.step(*batch)
        _finish(device)
        self.waiting.append(waited)
        self.total.append(time.perf_counter() - began)

    def images_per_s(self, images: int) -> float:
        return images / statistics.median(self.total)

    @property
    def waiting_share(self) -> float:
        return statistics.median(w / t for w, t in zip(self.waiting, self.total, strict=True))


def main(
    data: Annotated[Path | None, typer.Option(help="VOC folder; made up when absent")] = None,
    arch: str = "unet_resnet50",
    base_channels: int = 64,
    size: int = 256,
    batch_size: int = 16,
    turns: Annotated[int, typer.Option(min=1, help="measured turns of each way")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="steps in a turn")] = 3,
    workers: Annotated[int | None, typer.Option(help="as for fit")] = None,
    device: str = "auto",
    json_path: Annotated[Path | None, typer.Option("--json", help="write the figures")] = None,
) -> None:
    """Measures a plain loop, this trainer with the report's recipe, and with the standard one."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as temporary:
        root = data or make_photographs(Path(temporary), 64)
        folder = VocFolder.open(root)
        ids = folder.split("train")
        chosen = choose_device(device)

        def network() -> nn.Module:
            torch.manual_seed(0)
            made = build(arch, num_classes=len(folder.class_set), base_channels=base_channels)
            return made.to(chosen)

        plain = PlainLoop(network(), folder, ids, size=size, batch_size=batch_size)
        ways = [Way("plain loop", plain.batches(), lambda x, y: plain.step(x, y, chosen))]
        for name in ("report", "standard"):
            config = FitConfig(
                data=root,
                arch=arch,
                out=Path(temporary) / "run",
                recipe=choose_recipe(name, {}),
                image_size=str(size),
                batch_size=batch_size,
                base_channels=base_channels,
                workers=workers,
            )
            ways.append(_ours(config, network(), folder, ids, chosen))
        for turn in range(-1, turns):
            for way in ways:
                way.turn(steps, chosen)
                if turn < 0:  # the first turn of each chooses kernels and fills caches
                    way.waiting.clear()
                    way.total.clear()
            logger.info("turn %d of %d", turn + 1, turns)
    _show(ways, images=steps * batch_size, arch=arch, size=size, device=chosen, json_path=json_path)


def _ours(
    config: FitConfig, network: nn.Module, folder: VocFolder, ids: list[str], device: torch.device
) -> Way:
    """The trainer's own loader and step, as `fit` puts them together."""
    network = network.to(memory_format=torch.channels_last)
    recipe = config.recipe
    spec = InputSpec(mean=(0.5,) * 3, std=(0.25,) * 3, stride=16)
    learner = Learner(
        network=network,
        optimizer=build_optimizer(network, recipe),  # type: ignore[arg-type]
        loss=SegmentationLoss(recipe, ignore_index=folder.class_set.ignore_index),
        spec=spec,
        precision=Precision(device, use_bf16(device, "auto")),
        averaged=averaged_copy(network, recipe.ema_decay) if recipe.ema_decay else None,
        clip_norm=recipe.clip_norm,
    )
    set_training(network, freeze_batch_norm=False)

    loader = TrainingLoader(config, folder, ids, device=device, processes=Processes())

    def batches() -> Batches:
        for epoch in count(1):
            for batch in loader.epoch(epoch):
                if len(batch[0]) == config.batch_size:
                    yield batch

    return Way(f"fit --recipe {recipe.name}", batches(), lambda x, y: train_step(learner, x, y))


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _show(
    ways: list[Way],
    *,
    images: int,
    arch: str,
    size: int,
    device: torch.device,
    json_path: Path | None,
) -> None:
    base = ways[0].images_per_s(images)
    table = Table(
        "", "images/s", "times the plain loop", "waiting for data", title=_title(arch, size, device)
    )
    rows = []
    for way in ways:
        speed = way.images_per_s(images)
        table.add_row(way.name, f"{speed:.2f}", f"{speed / base:.2f}", f"{way.waiting_share:.1%}")
        rows.append({"way": way.name, "images_per_s": speed, "waiting_share": way.waiting_share})
    plain_console().print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1))


def _title(arch: str, size: int, device: torch.device) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{arch} at {size}x{size} on {where}{threads}"


if __name__ == "__main__":
    typer.run(main)
