"""What a resumed run keeps of how it began."""

import json
import shutil
from pathlib import Path

import pytest

from tests.trainer.command_line import refusal, succeed
from tests.trainer.runs import SMALL, fit
from tests.voc_folder import make_voc_folder


@pytest.fixture(scope="module")
def started(run_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("begun") / "first"
    fit(run_data, out, "--epochs", "1")
    return out


def configuration(out: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((out / "config.json").read_text())
    return content


def test_the_weights_a_run_began_with_stay_in_its_configuration(
    started: Path, run_data: Path, tmp_path: Path
) -> None:
    start, out = started / "checkpoints/last.pth", tmp_path / "run"
    fit(run_data, out, "--epochs", "1", "--init", start)
    fit(run_data, out, "--epochs", "2", "--resume")
    assert configuration(out)["init"] == str(start)


def test_automatic_precision_is_settled_for_the_whole_run(
    run_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a run begins on a processor with bfloat16 and is resumed on one without."""
    out = tmp_path / "run"
    monkeypatch.setattr("trainer.training.prepare.use_bf16", lambda device, precision: True)
    fit(run_data, out, "--epochs", "1", "--precision", "auto")
    assert configuration(out)["precision"] == "bfloat16"
    monkeypatch.setattr("trainer.training.prepare.use_bf16", lambda device, precision: False)
    outcome = fit(run_data, out, "--epochs", "2", "--precision", "auto", "--resume")
    assert "cpu bfloat16" in outcome.log
    options = ("--epochs", "2", "--precision", "float32", "--resume")
    line = refusal("fit", "--data", run_data, "--out", out, *SMALL, *options)
    assert "--precision was bfloat16, now float32" in line


@pytest.mark.parametrize("changed", ["a training image", "a validation mask", "the split val"])
def test_resuming_on_changed_data_is_refused(changed: str, tmp_path: Path) -> None:
    data = make_voc_folder(tmp_path / "voc", count=9, seed=0)
    out = tmp_path / "run"
    fit(data, out, "--epochs", "1")
    splits = data / "ImageSets/Segmentation"
    train, val = ((splits / f"{name}.txt").read_text().split() for name in ("train", "val"))
    other = make_voc_folder(tmp_path / "other", count=9, seed=1)
    if changed == "the split val":
        (splits / "val.txt").write_text(val[0] + "\n")
    elif changed == "a validation mask":
        name = f"SegmentationClass/{val[0]}.png"
        shutil.copy(other / name, data / name)
    else:
        path = next((data / "JPEGImages").glob(f"{train[0]}.*"))
        shutil.copy(other / "JPEGImages" / path.name, path)
    line = refusal("fit", "--data", data, "--out", out, *SMALL, "--epochs", "2", "--resume")
    assert "train or val were changed" in line


def test_what_a_killed_run_had_begun_to_write_is_removed(
    started: Path, run_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(started, out)
    begun = [out / ".state.pt.a1b2c3d4.tmp", out / "checkpoints/.last.pth.a1b2c3d4.tmp"]
    for path in begun:
        path.write_bytes(b"half of it")
    (out / "notes.tmp").write_text("mine")
    fit(run_data, out, "--epochs", "2", "--resume")
    assert not any(path.exists() for path in begun)
    assert (out / "notes.tmp").exists()


def test_a_file_in_place_of_the_run_folder_is_named(run_data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    line = refusal("fit", "--data", run_data, "--out", tmp_path / "run", *SMALL)
    assert f"--out {tmp_path / 'run'}: is a file" in line


def test_ids_that_differ_in_a_colon_have_pictures_of_their_own(tmp_path: Path) -> None:
    data = make_voc_folder(tmp_path / "voc", count=9, seed=0)
    splits = data / "ImageSets/Segmentation"
    val = (splits / "val.txt").read_text().split()
    names = ["new:one", "new-one"]
    for old, new in zip(val, names, strict=False):
        for part in ("JPEGImages", "SegmentationClass"):
            path = next((data / part).glob(f"{old}.*"))
            path.rename(path.with_name(new + path.suffix))
    (splits / "val.txt").write_text("".join(f"{name}\n" for name in names))
    fit(data, tmp_path / "run", "--epochs", "1", "--samples", "2")
    pictures = sorted(p.name for p in (tmp_path / "run/samples/epoch-001").iterdir())
    assert pictures == ["new%3Aone.png", "new-one.png"]
    figures = tmp_path / "figures"
    checkpoint = tmp_path / "run/checkpoints/last.pth"
    (figures / "worst").mkdir(parents=True)
    (figures / "worst/07-holiday.png").write_bytes(b"not of the dataset")
    succeed("evaluate", "--checkpoint", checkpoint, "--data", data, "--pictures", figures)
    assert (figures / "worst/07-holiday.png").exists()
