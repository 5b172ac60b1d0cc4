"""Small runs of `fit`, and reading what they leave behind."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.trainer.command_line import Outcome, succeed

SMALL: tuple[str, ...] = ("--arch", "unet", "--base-channels", "4", "--image-size", "32")
SMALL += ("--batch-size", "2", "--precision", "float32", "--device", "cpu", "--workers", "0")
SMALL += ("--samples", "1", "--recipe", "report", "--no-report")


def fit(data: Path, out: Path, *options: object) -> Outcome:
    return succeed("fit", "--data", data, "--out", out, *SMALL, *options)


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


def equal_weights(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def manifest(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return content


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
