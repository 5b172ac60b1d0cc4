"""What happens to an image and its labels before a batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors

from models.geometry import PADDING_COLOR, resize_pixels
from trainer.config import FitConfig
from trainer.data.augment import (
    PlainResize,
    RandomScale,
    TrainingTransform,
    plain_pair,
    resize_labels,
    training_transform,
)
from trainer.recipe import RECIPES

HEIGHT, WIDTH = 48, 64
IGNORE = 255
PADDED = 3  # stands for padding where a class is expected


def colored_blocks(height: int = 96, width: int = 128) -> tuple[Tensor, Tensor]:
    """Labels in blocks of classes 0, 1, 2 without symmetry, and an image that shows class k as
    pure colour channel k."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 3, (height // 32, width // 32), generator=random)
    labels = coarse.repeat_interleave(32, 0).repeat_interleave(32, 1).to(torch.uint8)
    image = F.one_hot(labels.long(), 3).permute(2, 0, 1) * 200  # (3, H, W)
    return image.to(torch.uint8), labels


def class_by_color(image: Tensor) -> Tensor:
    """(H, W): the strongest channel, or PADDED where the pixel is grey."""
    values, channel = image.int().max(0)
    spread = values - image.int().min(0).values
    return torch.where(spread < 20, PADDED, channel)


def well_inside(labels: Tensor, *, margin: int = 3) -> Tensor:
    """bool (H, W): no other label within `margin` pixels, nor the edge of the picture."""
    padded = F.pad(labels[None, None].float(), (margin,) * 4, value=-1.0)
    highest = F.max_pool2d(padded, 2 * margin + 1, stride=1)[0, 0]
    lowest = -F.max_pool2d(-padded, 2 * margin + 1, stride=1)[0, 0]
    return highest == lowest


STILL: dict[str, Any] = {"scale_min": 1.0, "scale_max": 1.0, "stretch": 1.0}
STILL |= {"rotation": 0.0, "flip": 0.0, "color": 0.0, "blur": 0.0}


def transform(*, ignore_index: int = IGNORE, **options: Any) -> TrainingTransform:
    """That of the standard recipe, but for its choices and the options given."""
    recipe = RECIPES["standard"]
    choices = {name: options.pop(name) for name in list(options) if hasattr(recipe, name)}
    given = {"image_size": f"{HEIGHT}x{WIDTH}", **options}
    recipe = replace(recipe, **choices)
    config = FitConfig(data=Path("data"), arch="unet", out=Path("run"), recipe=recipe, **given)
    return training_transform(config, ignore_index=ignore_index)


def augment(seed: int, image: Tensor, labels: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transform(**options)(image, labels)


@pytest.mark.parametrize(
    "options",
    [{}, {"rotation": 180.0}, {"crop_size": "40x60"}, {"input_mode": "tile", "scale_min": 0.3}],
    ids=["standard", "turned", "crop", "tile"],
)
def test_image_and_labels_stay_aligned(options: dict[str, Any]) -> None:
    image, labels = colored_blocks()
    seen: set[int] = set()
    for seed in range(40):
        pixels, mask = augment(seed, image, labels, **options)
        inside = well_inside(mask)
        shown, meant = class_by_color(pixels)[inside], mask[inside].long()
        assert inside.float().mean() > 0.2
        assert torch.equal(shown, torch.where(meant == IGNORE, PADDED, meant))
        seen |= set(meant.tolist())
    assert seen == {0, 1, 2, IGNORE}  # padding was among it


def test_the_alignment_test_notices_a_flip_of_the_image_alone() -> None:
    image, labels = colored_blocks()
    pixels, mask = augment(0, image, labels)
    inside = well_inside(mask)
    assert not torch.equal(class_by_color(pixels.flip(-1))[inside], mask[inside].long())


def test_a_training_pair_has_the_inputs_size_and_eight_bits() -> None:
    for height, width in ((20, 30), (300, 200), (48, 64)):
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        labels = torch.randint(0, 3, (height, width), dtype=torch.uint8)
        pixels, mask = augment(1, image, labels)
        assert (pixels.shape, pixels.dtype) == ((3, HEIGHT, WIDTH), torch.uint8)
        assert (mask.shape, mask.dtype) == ((HEIGHT, WIDTH), torch.uint8)
        assert type(pixels) is type(mask) is Tensor


def test_labels_never_gain_a_value() -> None:
    labels = torch.zeros(60, 90, dtype=torch.uint8)
    labels[20:40, 30:60] = 200  # halfway values of a blend would be 1..199
    image = torch.zeros(3, 60, 90, dtype=torch.uint8)
    for seed in range(30):
        assert set(augment(seed, image, labels)[1].flatten().tolist()) <= {0, 200, IGNORE}


def test_padding_is_grey_in_the_image_and_ignored_in_the_labels() -> None:
    image = torch.full((3, 96, 128), 255, dtype=torch.uint8)
    image[1:] = 0
    labels = torch.zeros(96, 128, dtype=torch.uint8)
    padded = 0
    for seed in range(30):
        # neither turned, which blends the edge of the grey, nor of other colours
        options: dict[str, Any] = {"rotation": 0.0, "color": 0.0, "blur": 0.0}
        pixels, mask = augment(seed, image, labels, ignore_index=77, **options)
        grey = (pixels == PADDING_COLOR).all(0)
        assert torch.equal(grey, mask == 77)
        padded += int(grey.any())
    assert 0 < padded < 30


def test_half_the_pictures_are_mirrored() -> None:
    labels = torch.zeros(96, 128, dtype=torch.uint8)
    labels[:, 64:] = 1
    image = torch.zeros(3, 96, 128, dtype=torch.uint8)
    turned = 0
    for seed in range(60):
        columns = augment(seed, image, labels, rotation=0.0)[1].float()
        columns[columns == IGNORE] = float("nan")
        left, right = columns[:, : WIDTH // 2].nanmean(), columns[:, WIDTH // 2 :].nanmean()
        turned += int(left > right)
    assert 15 <= turned <= 45


def test_the_colours_vary_but_not_the_labels() -> None:
    image, labels = colored_blocks()
    brightness = {int(augment(seed, image, labels)[0].max()) for seed in range(20)}
    assert len(brightness) > 5


@pytest.mark.parametrize("seed", range(5))
def test_the_random_size_lies_within_scale_and_stretch(seed: int) -> None:
    scaling = RandomScale((100, 200), scale=(0.5, 2.0), stretch=1.2)
    torch.manual_seed(seed)
    for _ in range(50):
        height, width = scaling.make_params([])["size"]
        factor = ((height / 100) * (width / 200)) ** 0.5
        aspect = (width / 200) / (height / 100)
        assert 0.49 < factor < 2.02
        assert 1 / 1.22 < aspect < 1.22


def test_factor_one_is_what_serving_does() -> None:
    image = torch.randint(0, 256, (3, 70, 50), dtype=torch.uint8)
    scaling = RandomScale((48, 64), scale=(1.0, 1.0), stretch=1.0)
    assert torch.equal(scaling(image), resize_pixels(image, 48, 64))


def test_without_a_size_factor_one_is_the_image_as_it_is() -> None:
    image = torch.randint(0, 256, (3, 70, 50), dtype=torch.uint8)
    assert torch.equal(RandomScale(None, scale=(1.0, 1.0), stretch=1.0)(image), image)
    assert RandomScale(None, scale=(2.0, 2.0), stretch=1.0)(image).shape == (3, 140, 100)


@pytest.mark.parametrize("size", [(70, 50), (140, 200), (24, 16)])
def test_labels_are_picked_at_pixel_centres_as_without_augmentation(size: tuple[int, int]) -> None:
    """Plain "nearest" would move them half a pixel against the image."""
    labels = torch.randint(0, 200, size, dtype=torch.uint8)
    scaling = RandomScale((48, 64), scale=(1.0, 1.0), stretch=1.0)
    assert torch.equal(scaling(tv_tensors.Mask(labels)), resize_labels(labels, 48, 64))


def test_plain_labels_are_picked_not_blended() -> None:
    labels = torch.zeros(60, 90, dtype=torch.uint8)
    labels[20:40, 30:60] = 200
    resized = resize_labels(labels, 48, 64)
    assert resized.shape == (48, 64)
    assert set(resized.flatten().tolist()) == {0, 200}
    expected = 20 * 30 / (60 * 90)
    assert float((resized == 200).float().mean()) == pytest.approx(expected, abs=0.02)


def test_labels_of_the_right_size_are_left_alone() -> None:
    labels = torch.randint(0, 3, (48, 64), dtype=torch.uint8)
    assert torch.equal(resize_labels(labels, 48, 64), labels)


def test_the_plain_pair_is_aligned() -> None:
    image, labels = colored_blocks()
    pixels, mask = plain_pair(image, labels, HEIGHT, WIDTH)
    inside = well_inside(mask)
    assert torch.equal(class_by_color(pixels)[inside], mask[inside].long())
    assert set(mask.flatten().tolist()) == {0, 1, 2}


def test_the_reports_preparation_is_the_plain_pair() -> None:
    image, labels = colored_blocks()
    pixels, mask = PlainResize(HEIGHT, WIDTH)(image, labels)
    expected = plain_pair(image, labels, HEIGHT, WIDTH)
    assert torch.equal(pixels, expected[0])
    assert torch.equal(mask, expected[1])


# --- rotation ---------------------------------------------------------------------------------


def test_three_in_ten_are_turned_and_their_empty_corners_are_ignored() -> None:
    """The crop is as large as the picture, so that no corner is cut off."""
    image, labels = colored_blocks(96, 128)
    options = {**STILL, "rotation": 45.0, "image_size": "96x128"}
    turned = 0
    for seed in range(60):
        pixels, mask = augment(seed, image, labels, **options)
        empty = mask == IGNORE
        turned += int(empty.any())
        assert torch.equal(pixels, image) != bool(empty.any())
        inside = well_inside(mask)
        assert (pixels[:, inside & empty] == PADDING_COLOR).all()
        assert empty.float().mean() < 0.4
    assert 8 <= turned <= 30


def test_an_angle_is_at_most_the_one_asked_for() -> None:
    """The corner of a picture that is turned by an angle a moves by about a times its distance."""
    labels = torch.zeros(101, 101, dtype=torch.uint8)
    labels[:, 50:] = 1
    image = torch.zeros(3, 101, 101, dtype=torch.uint8)
    options = {**STILL, "rotation": 10.0, "image_size": "101"}
    slopes = []
    for seed in range(60):
        mask = augment(seed, image, labels, **options)[1]
        edges = [(mask[row] == 1).long().argmax() for row in (25, 75)]  # first column of class 1
        slopes.append(float(edges[1] - edges[0]) / 50)
    assert max(map(abs, slopes)) < 0.21  # tan 10 degrees is 0.176; and a pixel
    assert max(slopes) > 0.06 > -0.06 > min(slopes)


# --- crops and tiles --------------------------------------------------------------------------


def places(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Each pixel of the image says its row and column, and its label the parity of their sum."""
    rows = torch.arange(height)[:, None].expand(height, width)
    columns = torch.arange(width)[None].expand(height, width)
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)
    return image, ((rows + columns) % 2).to(torch.uint8)


def require_window(pixels: Tensor, mask: Tensor, image: Tensor, labels: Tensor) -> tuple[int, int]:
    """The pair is a piece of image and labels, pixel for pixel; returns its corner."""
    top, left = int(pixels[0, 0, 0]), int(pixels[1, 0, 0])
    window = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
    assert torch.equal(pixels, image[:, window[0], window[1]])
    assert torch.equal(mask, labels[window])
    return top, left


@pytest.mark.parametrize("augmented", [False, True])
def test_a_tile_is_cut_at_the_images_own_resolution(augmented: bool) -> None:
    image, labels = places(150, 200)
    options = STILL if augmented else {"augment": False}
    corners = {
        require_window(*augment(seed, image, labels, input_mode="tile", **options), image, labels)
        for seed in range(20)
    }
    assert len(corners) > 10


@pytest.mark.parametrize("augmented", [False, True])
def test_a_crop_is_cut_from_the_image_at_the_inputs_size(augmented: bool) -> None:
    image, labels = places(HEIGHT, WIDTH)
    options = STILL if augmented else {"augment": False}
    for seed in range(5):
        pixels, mask = augment(seed, image, labels, crop_size="32x40", **options)
        assert mask.shape == (32, 40)
        require_window(pixels, mask, image, labels)
    larger = torch.randint(0, 256, (3, 2 * HEIGHT, 2 * WIDTH), dtype=torch.uint8)
    pixels, _ = augment(
        0, larger, torch.zeros(2 * HEIGHT, 2 * WIDTH).byte(), crop_size="32", **options
    )
    whole = resize_pixels(larger, HEIGHT, WIDTH)
    assert any(
        torch.equal(pixels, whole[:, top : top + 32, left : left + 32])
        for top in range(HEIGHT - 31)
        for left in range(WIDTH - 31)
    )


def test_a_tile_larger_than_the_image_is_padded() -> None:
    image, labels = places(30, 40)
    for seed in range(5):
        pixels, mask = augment(seed, image, labels, input_mode="tile", augment=False)
        inside = mask != IGNORE
        assert int(inside.sum()) == 30 * 40
        assert torch.equal(pixels[:, inside].view(3, 30, 40), image)
        assert (pixels[:, ~inside] == PADDING_COLOR).all()


# --- without augmentation ---------------------------------------------------------------------


def test_without_augmentation_a_sample_is_the_plain_pair_whatever_the_recipe_says() -> None:
    image, labels = colored_blocks()
    expected = plain_pair(image, labels, HEIGHT, WIDTH)
    for seed in range(3):
        found = augment(seed, image, labels, augment=False, rotation=90.0, blur=1.0)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_blur_smooths_the_image_and_not_the_labels() -> None:
    image, labels = colored_blocks(96, 128)
    options = {**STILL, "blur": 1.0, "image_size": "96x128"}
    pixels, mask = augment(0, image, labels, **options)
    assert torch.equal(mask, labels)
    assert int(((pixels > 5) & (pixels < 195)).sum()) > 0
    assert torch.equal(augment(0, image, labels, **{**options, "blur": 0.0})[0], image)
