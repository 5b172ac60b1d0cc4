"""Masks for a folder of images."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import Checkpoint
from models.geometry import normalise, resize_pixels
from models.pixels import open_image, rgb_pixels
from models.segmentation import segment_image
from models.upsample import segment_logits
from tests.networks import manifest_for
from tests.trainer.datasets import noise
from tests.undecided import KINDS, undecided_network
from trainer.errors import DatasetError
from trainer.predict import image_files, predict_folder


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    network = undecided_network(num_classes=5, name=request.param)
    return Checkpoint(network, manifest_for(network, request.param))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """one.png 50 x 40, two.jpg 33 x 71."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(noise(40, 50)).save(folder / "one.png")
    Image.fromarray(noise(71, 33, seed=1)).save(folder / "two.jpg")
    return folder


def predict(
    checkpoint: Checkpoint, files: list[Path], out: Path
) -> tuple[int, dict[str, str | None]]:
    told: dict[str, str | None] = {}

    def on_image(path: Path, problem: str | None) -> None:
        told[path.name] = problem

    return predict_folder(checkpoint, files, out, device="cpu", on_image=on_image), told


def test_only_images_are_taken_in_order(images: Path) -> None:
    (images / "notes.txt").write_text("no image")
    Image.fromarray(noise(9, 9)).save(images / "A.PNG")
    assert [path.name for path in image_files(images)] == ["A.PNG", "one.png", "two.jpg"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--images .*/nothing: no such folder"):
        image_files(tmp_path / "nothing")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DatasetError, match="holds no image"):
        image_files(tmp_path)


def test_a_mask_is_what_the_network_says_at_the_images_size(
    checkpoint: Checkpoint, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "masks"
    failed, told = predict(checkpoint, image_files(images), out)
    assert (failed, told) == (0, {"one.png": None, "two.jpg": None})
    assert sorted(path.name for path in out.iterdir()) == ["one.png", "two.png"]
    spec = checkpoint.manifest.input
    for name in ("one.png", "two.jpg"):
        with open_image(images / name) as image:
            pixels = rgb_pixels(image)
        small = resize_pixels(pixels, spec.height, spec.width)
        with torch.no_grad():
            logits = checkpoint.network.native_logits(normalise(small, spec)[None])[0]
        expected = segment_logits(logits, *pixels.shape[-2:]).labels.numpy()
        with Image.open(out / f"{Path(name).stem}.png") as mask:
            assert mask.mode == "P"
            agreement = np.mean(np.asarray(mask) == expected)
            palette = mask.getpalette("RGB")
        assert agreement > 0.999  # ties after rounding
        assert len(np.unique(expected)) > 2
        assert palette is not None
        assert bytes(palette[:15]) == checkpoint.manifest.class_set().palette()[:15]


def test_a_network_trained_on_crops_predicts_in_tiles(
    checkpoint: Checkpoint, images: Path, tmp_path: Path
) -> None:
    spec = checkpoint.manifest.input.model_copy(update={"mode": "tile", "height": 32, "width": 24})
    tiled = Checkpoint(checkpoint.network, checkpoint.manifest.model_copy(update={"input": spec}))
    assert predict(tiled, image_files(images), tmp_path)[0] == 0
    for name in ("one.png", "two.jpg"):
        with open_image(images / name) as image:
            pixels = rgb_pixels(image)
        expected = segment_image(
            pixels, spec, checkpoint.network, device=torch.device("cpu"), batch_size=2
        ).labels.numpy()
        with Image.open(tmp_path / f"{Path(name).stem}.png") as mask:
            assert np.mean(np.asarray(mask) == expected) > 0.999  # ties after rounding
        assert len(np.unique(expected)) > 2


def test_a_bad_file_is_reported_and_the_others_are_done(
    checkpoint: Checkpoint, images: Path, tmp_path: Path
) -> None:
    (images / "a_text.jpg").write_text("no image")
    whole = (images / "two.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(images / "pipe.jpg")
    failed, told = predict(checkpoint, image_files(images), tmp_path / "out")
    bad = {name for name, problem in told.items() if problem is not None}
    assert bad == {"a_text.jpg", "cut.jpg", "loop.jpg", "pipe.jpg"}
    assert failed == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.png", "two.png"]


def test_two_images_for_one_mask_are_refused_before_anything_is_written(
    checkpoint: Checkpoint, images: Path, tmp_path: Path
) -> None:
    Image.fromarray(noise(9, 9)).save(images / "one.jpg")
    with pytest.raises(DatasetError, match=r"one\.jpg and one\.png would both become one\.png"):
        predict(checkpoint, image_files(images), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_never_overwrite_the_images_they_are_made_from(
    checkpoint: Checkpoint, images: Path
) -> None:
    before = (images / "one.png").read_bytes()
    with pytest.raises(DatasetError, match="--out"):
        predict(checkpoint, image_files(images), images)
    assert (images / "one.png").read_bytes() == before
