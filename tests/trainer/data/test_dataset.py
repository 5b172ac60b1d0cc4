"""The dataset folder, and the same preparation in training, evaluation and serving."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.errors import ClassSetError
from models.geometry import network_input, normalise, resize_pixels
from models.manifest import InputSpec
from models.pixels import open_image, rgb_pixels
from tests.trainer.datasets import (
    THREE_CLASSES,
    empty_dataset,
    noise,
    quarters,
    three_class_dataset,
    write_classes,
    write_image,
    write_mask,
    write_split,
)
from trainer.data.augment import PlainResize
from trainer.data.dataset import EvaluationSet, VocFolder
from trainer.data.training_set import Key, TrainingSet
from trainer.errors import DatasetError

SPEC = InputSpec(
    height=32, width=48, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), stride=16
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return three_class_dataset(tmp_path / "data", count=6)


# --- the folder -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"])
def test_a_missing_part_is_named(part: str, root: Path) -> None:
    (root / part).rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=f"{part}: no such folder"):
        VocFolder.open(root)


def test_a_missing_split_lists_those_there_are(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"test\.txt: no such split; there are: train, val"):
        VocFolder.open(root).split("test")


@pytest.mark.parametrize("content", ["", "\n  \n\n"])
def test_an_empty_split_is_refused(content: str, root: Path) -> None:
    (root / "ImageSets/Segmentation/train.txt").write_text(content)
    with pytest.raises(DatasetError, match=r"train\.txt: the split is empty"):
        VocFolder.open(root).split("train")


def test_an_id_listed_twice_is_named(root: Path) -> None:
    write_split(root, "train", ["a", "b", "a"])
    with pytest.raises(DatasetError, match=r"train\.txt: image 'a' is listed twice"):
        VocFolder.open(root).split("train")


@pytest.mark.parametrize("image_id", ["../a", "sub/a", "/etc/passwd", "a/"])
def test_an_id_with_a_path_in_it_is_refused(image_id: str, root: Path) -> None:
    write_split(root, "train", ["b", image_id])
    with pytest.raises(DatasetError, match="is not a plain image id"):
        VocFolder.open(root).split("train")


def test_a_split_keeps_the_files_order_and_takes_the_first_word(root: Path) -> None:
    path = root / "ImageSets/Segmentation/train.txt"
    path.write_text("c 1\n\na -1\n  b\n")
    assert VocFolder.open(root).split("train") == ["c", "a", "b"]


def test_an_id_may_hold_spaces(root: Path) -> None:
    path = root / "ImageSets/Segmentation/train.txt"
    path.write_text("scan of May\nleft eye 1\n")
    assert VocFolder.open(root).split("train") == ["scan of May", "left eye"]


def test_a_split_that_is_not_text_is_not_called_missing(root: Path) -> None:
    (root / "ImageSets/Segmentation/train.txt").write_bytes(b"a\xff\n")
    with pytest.raises(DatasetError, match=r"train\.txt: not UTF-8 text"):
        VocFolder.open(root).split("train")


def test_a_split_in_utf_16_is_not_taken_for_ids(root: Path) -> None:
    (root / "ImageSets/Segmentation/train.txt").write_bytes("a\nb\n".encode("utf-16-le"))
    with pytest.raises(DatasetError, match=r"train\.txt: not UTF-8 text .* UTF-16"):
        VocFolder.open(root).split("train")


@pytest.mark.parametrize("line", ["x" * 5000, "x" * 5000 + " 1", "가" * 90])
def test_an_id_longer_than_a_name_can_be_is_one_line(line: str, root: Path) -> None:
    path = root / "ImageSets/Segmentation/train.txt"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"train\.txt: .* too long for the name") as caught:
        VocFolder.open(root).split("train")
    assert len(str(caught.value)) < len(str(path)) + 150


def test_a_folder_in_a_splits_place_is_not_called_missing(root: Path) -> None:
    (root / "ImageSets/Segmentation/test.txt").mkdir()
    with pytest.raises(DatasetError, match=r"test\.txt: is a folder, not a list of ids"):
        VocFolder.open(root).split("test")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_an_image_that_is_no_file_is_not_opened(make: Callable[[Path], object], root: Path) -> None:
    path = root / "JPEGImages/a.png"
    path.unlink()
    make(path)
    with pytest.raises(DatasetError, match=r"a\.png: is no file"):
        VocFolder.open(root).read_pair("a")


def test_classes_behind_a_link_that_leads_nowhere_are_not_vocs(root: Path) -> None:
    (root / "classes.json").unlink()
    (root / "classes.json").symlink_to("elsewhere.json")
    with pytest.raises(ClassSetError, match=r"classes\.json: No such file"):
        VocFolder.open(root)


def test_an_id_with_the_files_ending_is_explained(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.png\.\*: the image is missing; .* ending"):
        VocFolder.open(root).image_path("a.png")


IMAGE_MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "grey": lambda rgb: rgb.convert("L"),
    "grey and alpha": lambda rgb: rgb.convert("LA"),
    "alpha": lambda rgb: rgb.convert("RGBA"),
    "palette": lambda rgb: rgb.quantize(8),
    "one bit": lambda rgb: rgb.convert("1"),
    "16 bits": lambda rgb: Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257),
}


@pytest.mark.parametrize("mode", IMAGE_MODES)
def test_images_of_every_mode_become_three_channels(mode: str, root: Path) -> None:
    IMAGE_MODES[mode](Image.fromarray(noise(20, 24))).save(root / "JPEGImages/a.png")
    folder = VocFolder.open(root)
    samples = TrainingSet(folder, folder.split("train"), PlainResize(32, 48), seed=0)
    image, labels = samples[Key(1, 0)]
    assert image.shape == (3, 32, 48)
    assert labels.shape == (32, 48)
    assert int(image.max()) > int(image.min())
    assert folder.image_size("a") == (20, 24)


def test_transparency_is_laid_over_white(root: Path) -> None:
    Image.new("RGBA", (24, 20), (255, 0, 0, 0)).save(root / "JPEGImages/a.png")
    assert int(VocFolder.open(root).read_image("a").min()) == 255


def test_classes_come_from_classes_json(root: Path) -> None:
    folder = VocFolder.open(root)
    assert folder.class_set == THREE_CLASSES
    assert folder.border_id is None
    assert sorted(set(folder.read_labels("a").flatten().tolist())) == [0, 1, 2, 255]


@pytest.mark.parametrize(("border", "count"), [(None, 22), ("class", 22), ("ignore", 21)])
def test_without_classes_json_the_classes_are_vocs(
    border: str | None, count: int, tmp_path: Path
) -> None:
    root = empty_dataset(tmp_path / "data")
    write_mask(root, "a", quarters(4, 4))
    folder = VocFolder.open(root, border=border)
    assert len(folder.class_set) == count
    expected = 21 if count == 22 else 255
    assert int(folder.read_labels("a")[-1, -1]) == expected


def test_a_border_class_beside_classes_json_is_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"classes\.json: --border class"):
        VocFolder.open(root, border="class")


def test_ignoring_the_border_is_what_classes_json_means_anyway(root: Path) -> None:
    assert VocFolder.open(root, border="ignore") == VocFolder.open(root)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"])
def test_images_of_every_format_are_found(suffix: str, root: Path) -> None:
    flat = np.full((20, 24, 3), 90, dtype=np.uint8)
    write_image(root, "new", flat, suffix=suffix)
    image = VocFolder.open(root).read_image("new")
    assert image.shape == (3, 20, 24)
    assert (image.int() - 90).abs().max() <= 2


def test_a_missing_image_is_named(root: Path) -> None:
    (root / "JPEGImages/a.png").unlink()
    with pytest.raises(DatasetError, match=r"JPEGImages/a\.\*: the image is missing"):
        VocFolder.open(root).read_pair("a")


def test_a_missing_mask_is_named(root: Path) -> None:
    (root / "SegmentationClass/a.png").unlink()
    with pytest.raises(DatasetError, match=r"SegmentationClass/a\.png: the mask is missing"):
        VocFolder.open(root).read_pair("a")


def test_a_mask_of_another_size_than_its_image_gives_both_sizes(root: Path) -> None:
    write_mask(root, "a", quarters(24, 20))
    with pytest.raises(DatasetError, match=r"a\.png: the mask is 20x24, its image 24x20"):
        VocFolder.open(root).read_pair("a")


def test_a_broken_jpeg_is_named(root: Path) -> None:
    (root / "JPEGImages/a.png").unlink()
    path = write_image(root, "a", noise(20, 24), suffix=".jpg")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DatasetError, match=r"JPEGImages/a\.jpg"):
        VocFolder.open(root).read_pair("a")


def test_an_image_turned_by_exif_fits_its_upright_mask(root: Path) -> None:
    (root / "JPEGImages/a.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: width and height change places
    path = root / "JPEGImages/a.jpg"
    Image.fromarray(noise(24, 20)).save(path, exif=exif)
    folder = VocFolder.open(root)
    image, labels = folder.read_pair("a")
    assert image.shape[-2:] == labels.shape == (20, 24)
    assert folder.image_size("a") == (20, 24)


def test_one_mask_pixel_changes_the_fingerprint(root: Path) -> None:
    folder = VocFolder.open(root)
    before = folder.fingerprint(["a", "b"])
    assert folder.fingerprint(["a", "b"]) == before
    ids = quarters(20, 24)
    ids[0, 0] = 1
    write_mask(root, "b", ids)
    assert folder.fingerprint(["a", "b"]) != before


def test_ids_order_and_classes_change_the_fingerprint(root: Path, tmp_path: Path) -> None:
    folder = VocFolder.open(root)
    prints = {folder.fingerprint(ids) for ids in (["a", "b"], ["b", "a"], ["a"], ["a", "c"])}
    copy = three_class_dataset(tmp_path / "copy", count=6)
    assert VocFolder.open(copy).fingerprint(["a", "b"]) in prints
    write_classes(copy, type(THREE_CLASSES)(THREE_CLASSES.classes[:2]))
    prints.add(VocFolder.open(copy).fingerprint(["a", "b"]))
    assert len(prints) == 5


def test_the_fingerprint_waits_for_no_pipe(root: Path) -> None:
    (root / "SegmentationClass/b.png").unlink()
    os.mkfifo(root / "SegmentationClass/b.png")
    with pytest.raises(DatasetError, match=r"b\.png: is a pipe or device, not a mask"):
        VocFolder.open(root).fingerprint(["a", "b"])


def test_the_fingerprint_names_a_missing_mask(root: Path) -> None:
    (root / "SegmentationClass/b.png").unlink()
    with pytest.raises(DatasetError, match=r"SegmentationClass/b\.png: the mask is missing"):
        VocFolder.open(root).fingerprint(["a", "b"])


# --- the same preparation as in serving -------------------------------------------------------


def serving_tensor(path: Path) -> Tensor:
    """What a service makes of the file's bytes: float32 (3, h, w)."""
    pixels = rgb_pixels(open_image(path.read_bytes()))
    return normalise(resize_pixels(pixels, SPEC.height, SPEC.width), SPEC)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_training_and_evaluation_tensors_are_those_of_serving(suffix: str, tmp_path: Path) -> None:
    root = three_class_dataset(tmp_path / "data", height=61, width=75)
    (root / "JPEGImages/b.png").unlink()
    path = write_image(root, "b", noise(61, 75, seed=3), suffix=suffix)
    folder = VocFolder.open(root)
    trained, _ = TrainingSet(folder, ["a", "b"], PlainResize(32, 48), seed=0)[Key(1, 1)]
    evaluated = EvaluationSet(folder, ["a", "b"], SPEC)[1][0]
    device = torch.device("cpu")
    expected = serving_tensor(path)
    assert torch.equal(network_input(trained[None], SPEC, device)[0], expected)
    assert torch.equal(network_input(evaluated[None], SPEC, device)[0], expected)


def test_evaluation_keeps_the_labels_at_their_own_size(root: Path) -> None:
    folder = VocFolder.open(root)
    pixels, small, labels, name = EvaluationSet(folder, folder.split("val"), SPEC)[0]
    assert pixels.shape == (3, 32, 48)
    assert small.shape == (32, 48)
    assert torch.equal(labels, torch.from_numpy(quarters(20, 24)))
    assert name == "f"


def test_an_id_may_end_in_what_looks_like_a_mark(tmp_path: Path) -> None:
    """VOC's lists of one class write 1, 0 or -1 behind an id."""
    root = three_class_dataset(tmp_path / "data", count=3)
    write_image(root, "scan 1", noise(20, 24))
    write_mask(root, "scan 1", quarters(20, 24))
    write_split(root, "train", ["scan 1", "a  1", "b -1"])
    assert VocFolder.open(root).split("train") == ["scan 1", "a", "b"]


def test_a_suffix_in_any_case_is_found(tmp_path: Path) -> None:
    root = three_class_dataset(tmp_path / "data", count=3)
    path = next((root / "JPEGImages").glob("a.*"))
    path.rename(path.with_suffix(".Png"))
    assert VocFolder.open(root).image_path("a").name == "a.Png"
