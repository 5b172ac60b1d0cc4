"""The command line: usage, and errors in one line."""

import subprocess
import sys
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from models import list_architectures
from tests.trainer.command_line import refusal, run_command, succeed
from tests.trainer.datasets import three_class_dataset, write_mask
from tests.trainer.runs import SMALL
from trainer.__main__ import main

ROOT = Path(__file__).parents[2]
ONCE = ("--epochs", "1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """train: a, b, c; val: d; classes ground, red and green."""
    return three_class_dataset(tmp_path / "data", count=4)


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit",),
        ("evaluate", "--data", "d"),
        ("train",),
        ("fit", "--data", "d", "--arch", "unet", "--out", "o", "--epochs", "many"),
        ("check", "--data", "d", "--colour", "red"),
    ],
)
def test_a_mistyped_command_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    outcome = run_command(*arguments)
    assert outcome.status == 2
    assert "Usage" in outcome.stderr
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("fit", "--out"),
        ("fit", "--init"),
        ("predict", "--out"),
        ("export", "--out"),
        ("check", "--pictures"),
        ("report", "--run"),
        ("evaluate", "--json"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(command: str, option: str) -> None:
    outcome = run_command(command, option, "")
    assert outcome.status == 2
    assert f"'{option}': must not be empty" in outcome.stderr


@pytest.mark.parametrize(
    ("command", "option"),
    [("fit", "--resume"), ("evaluate", "--json"), ("check", "--split"), ("predict", "--images")],
)
def test_help_lists_the_options_and_is_no_error(command: str, option: str) -> None:
    assert option in succeed(command, "--help").stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "runs/12:30"), ["--out runs/12:30"]),
        (("--epochs", "0"), ["--epochs 0"]),
        (("--arch", "unet3d"), ["--arch unet3d", *list_architectures()]),
        (("--border", "maybe"), ["--border maybe", "class, ignore"]),
        (("--device", "abacus"), ["device", "abacus"]),
        (("--device", "cuda:77"), ["device", "cuda:77"]),
        (("--recipe", "slow"), ["--recipe slow", "standard, report"]),
        (("--precision", "int4"), ["--precision int4"]),
        (("--weights-dtype", "int8"), ["--weights-dtype int8", "float16"]),
        (("--image-size", "32x8"), ["--image-size 32x8", "32..4096"]),
        (("--lr", "nan"), ["--lr nan"]),
        (("--train-split", "nothing"), ["nothing.txt", "train, val"]),
        (("--data", "/nowhere"), ["/nowhere"]),
    ],
)
def test_fit_names_the_option_and_the_value(
    options: tuple[str, str], words: list[str], data: Path, tmp_path: Path
) -> None:
    line = refusal("fit", "--data", data, "--out", tmp_path / "run", *SMALL, *ONCE, *options)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["a:b", ":smile:", "[red]"])
def test_a_value_is_repeated_as_it_was_given(name: str, data: Path) -> None:
    assert f"/{name}/JPEGImages: no such" in refusal("check", "--data", data / name)


def test_a_file_in_the_run_folders_place_is_one_line(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    assert "run" in refusal("fit", "--data", data, "--out", tmp_path / "run", *SMALL, *ONCE)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_image_met_in_training_is_one_line(
    workers: str, data: Path, tmp_path: Path
) -> None:
    (data / "JPEGImages/b.png").write_bytes(b"no image")
    options = ("--workers", workers)
    line = refusal("fit", "--data", data, "--out", tmp_path / "run", *SMALL, *ONCE, *options)
    assert "JPEGImages/b.png" in line


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_image_met_in_validation_is_one_line(
    workers: str, data: Path, tmp_path: Path
) -> None:
    write_mask(data, "d", np.full((20, 24), 9, dtype=np.uint8))
    options = ("--workers", workers)
    line = refusal("fit", "--data", data, "--out", tmp_path / "run", *SMALL, *ONCE, *options)
    assert "d.png: unknown mask values 9 (480 pixels)" in line


def test_an_error_does_not_keep_worker_processes_alive(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "JPEGImages/b.png").write_bytes(b"no image")
    command = ["fit", "--data", data, "--out", tmp_path / "run", *SMALL, *ONCE, "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["trainer", *map(str, command)])
    monkeypatch.setattr("trainer.__main__.keep_freed_memory", lambda: None)
    before = set(active_children())
    with pytest.raises(SystemExit):
        main()
    assert set(active_children()) == before


def test_a_missing_mask_is_one_line(data: Path, tmp_path: Path) -> None:
    (data / "SegmentationClass/b.png").unlink()
    line = refusal("fit", "--data", data, "--out", tmp_path / "run", *SMALL, *ONCE)
    assert "SegmentationClass/b.png: the mask is missing" in line


def test_an_image_of_both_splits_under_two_names_ends_fit(data: Path, tmp_path: Path) -> None:
    images = data / "JPEGImages"
    (images / "d.png").write_bytes((images / "b.png").read_bytes())
    line = refusal("fit", "--data", data, "--out", tmp_path / "run", *SMALL, *ONCE)
    assert f"{images}/d.png holds the bytes of b.png" in line
    assert not (tmp_path / "run").exists()


def test_a_real_process_fails_in_one_line_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainer", "check", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}/JPEGImages: no such folder; a dataset folder has one"
    ]
    assert done.stdout == ""
