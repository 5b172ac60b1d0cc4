"""Where a checkpoint came from, in words another person can repeat."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from models.classes import ClassSet
from models.manifest import (
    Arguments,
    InputSpec,
    Manifest,
    Metrics,
    TrainingRecord,
    manifest_classes,
)
from trainer.config import FitConfig
from trainer.training.state import Progress


def describe_checkpoint(
    config: FitConfig,
    progress: Progress,
    *,
    class_set: ClassSet,
    spec: InputSpec,
    fingerprint: str,
    images_per_epoch: int,
    metrics: Metrics | None,
    processes: int = 1,
) -> Manifest:
    """The manifest of the weights as they stand at the end of `progress.epoch`."""
    return Manifest(
        name="unsaved",
        architecture=config.arch,
        arguments=Arguments(num_classes=len(class_set), base_channels=config.base_channels),
        classes=manifest_classes(class_set),
        ignore_index=class_set.ignore_index,
        input=spec,
        metrics=metrics,
        training=TrainingRecord(
            epoch=progress.epoch,
            step=progress.step,
            seed=config.seed,
            dataset_fingerprint=fingerprint,
            command=progress.command or command_line(),
            versions=library_versions(),
            started=progress.started,
            saved=now(),
            images_seen=progress.epoch * images_per_epoch,
            resumed_by=progress.resumed_by,
            processes=processes,
        ),
    )


def command_line() -> str:
    """The command of this process as it can be typed again; torchrun's own options are not known
    here, but for how many processes it was told to start."""
    launcher = ["python"]
    if os.environ.get("WORLD_SIZE", "1") != "1":
        here = os.environ["LOCAL_WORLD_SIZE"]
        launcher = ["torchrun", "--nproc-per-node", here]
        if (nodes := os.environ.get("GROUP_WORLD_SIZE", "1")) != "1":
            launcher += ["--nnodes", nodes]
    return shlex.join([*launcher, "-m", "trainer", *sys.argv[1:]])


def library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "pillow", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
