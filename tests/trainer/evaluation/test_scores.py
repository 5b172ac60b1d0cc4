"""The figures of single images, and the worst of them."""

import math

import torch

from trainer.evaluation.metrics import ConfusionMatrix
from trainer.evaluation.scores import ImageScore, WorstImages

NOTHING = torch.zeros(1, 1, dtype=torch.uint8)


def score(name: str, mean_iou: float, accuracy: float = 0.5) -> ImageScore:
    return ImageScore(name, pixel_accuracy=accuracy, mean_iou=mean_iou, labelled_pixels=1)


def test_an_images_mean_is_over_the_classes_its_labels_hold() -> None:
    matrix = ConfusionMatrix(3, ignore_index=255)
    matrix.counts[0, 0], matrix.counts[0, 2] = 3, 1
    assert ImageScore.of("a", matrix) == ImageScore("a", 0.75, 0.75, 4)


def test_an_image_without_a_label_has_no_score() -> None:
    nothing = ImageScore.of("a", ConfusionMatrix(3, ignore_index=255))
    assert math.isnan(nothing.mean_iou)
    assert math.isnan(nothing.pixel_accuracy)
    assert nothing.labelled_pixels == 0


def test_the_worst_are_kept_in_order_whatever_order_they_come_in() -> None:
    offered = [
        score("d", 0.2, 0.9),
        score("e", 0.8),
        score("b", 0.2, 0.1),
        score("unlabelled", math.nan, math.nan),
        score("a", 0.2, 0.9),
        score("c", 0.1),
    ]
    for order in (offered, offered[::-1]):
        worst = WorstImages(4)
        for entry in order:
            worst.offer(entry, NOTHING)
        assert [entry.id for entry, _ in worst.images] == ["c", "b", "a", "d"]


def test_none_may_be_asked_for() -> None:
    worst = WorstImages(0)
    worst.offer(score("a", 0.1), NOTHING)
    assert worst.images == []


def test_an_image_without_a_label_is_ranked_last() -> None:
    ranked = sorted([score("a", math.nan), score("b", 1.0)], key=lambda entry: entry.rank)
    assert [entry.id for entry in ranked] == ["b", "a"]
