"""Real photographs, where the machine has them: ../shared/data."""

from pathlib import Path

import pytest

from tests.trainer.command_line import succeed
from trainer.data.dataset import VocFolder

REAL_DATA = Path(__file__).parents[3].parent / "shared" / "data"


def real(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real photographs of ../shared/data/{name} are absent")
    return folder


@pytest.mark.parametrize(("border", "classes"), [("class", 22), ("ignore", 21)])
def test_check_passes_real_voc(border: str, classes: int) -> None:
    arguments = ("--split", "train", "--split", "val", "--limit", "12", "--border", border)
    shown = succeed("check", "--data", real("VOC2012"), *arguments).words
    assert shown.endswith("ready to train")
    assert "split train: 12 images" in shown
    assert ("border 12 " in shown) == (classes == 22)


def test_a_real_voc_mask_holds_classes_and_border() -> None:
    root = real("VOC2012")
    for border, last in (("ignore", 255), ("class", 21)):
        folder = VocFolder.open(root, border=border)
        name = folder.split("train")[0]
        image, labels = folder.read_pair(name)
        values = sorted(set(labels.flatten().tolist()))
        assert values[0] == 0
        assert values[-1] == last
        assert all(0 < value <= 20 for value in values[1:-1])
        assert image.shape[-2:] == labels.shape


def test_camvids_classes_come_from_its_classes_json() -> None:
    folder = VocFolder.open(real("CamVid"))
    assert len(folder.class_set) == 11
    assert folder.class_set.names[0] == "sky"
    labels = folder.read_labels(folder.split("val")[0])
    assert set(labels.flatten().tolist()) <= {*range(11), 255}
    assert "ready to train" in succeed("check", "--data", folder.root, "--limit", 5).stdout
