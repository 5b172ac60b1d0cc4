"""Measuring a network on a split."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.classes import ClassSet, voc_classes
from models.geometry import normalise, resize_pixels
from models.manifest import InputSpec, Manifest, Metrics
from models.network import SegmentationNetwork
from models.upsample import segment_logits
from tests.networks import manifest_for, small_network
from tests.trainer.datasets import (
    THREE_CLASSES,
    noise,
    quarters,
    three_class_dataset,
    write_image,
    write_mask,
)
from tests.undecided import KINDS, undecided_network
from trainer.data.augment import resize_labels
from trainer.data.dataset import VocFolder
from trainer.errors import DatasetError
from trainer.evaluation.evaluate import (
    Evaluation,
    class_ids,
    evaluate_network,
    require_same_classes,
)
from trainer.evaluation.metrics import ConfusionMatrix
from trainer.evaluation.scores import ImageScore, WorstImages
from trainer.evaluation.tta import TestTimeAugmentation
from trainer.losses import cross_entropy
from trainer.precision import Precision

SPEC = InputSpec(height=32, width=40, mean=(0.5,) * 3, std=(0.25,) * 3, stride=16)
EXACT = Precision(torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> VocFolder:
    """Images a to d, of different sizes."""
    root = three_class_dataset(tmp_path / "data", count=4)
    for index, name in enumerate("bd"):
        height, width = 50 + 7 * index, 30 + 40 * index
        write_image(root, name, noise(height, width, seed=index))
        write_mask(root, name, quarters(height, width))
    return VocFolder.open(root)


class AlwaysClass(SegmentationNetwork):
    """Prefers one class everywhere, by a logit of 3."""

    def __init__(self, chosen: int) -> None:
        super().__init__()
        self.chosen = chosen

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), 3, *images.shape[-2:])
        logits[:, self.chosen] = 3
        return logits


def test_the_counts_of_a_network_that_always_says_the_same_are_known(folder: VocFolder) -> None:
    evaluation = evaluate_network(AlwaysClass(1), folder, ["a", "c"], SPEC, EXACT)
    expected = torch.zeros(3, 3, dtype=torch.int64)
    expected[:, 1] = 2 * 120  # 20 x 24 pixels, a quarter each, one quarter ignored
    assert torch.equal(evaluation.matrix.counts, expected)
    assert evaluation.images == 2
    log_sum = torch.tensor([0.0, 3.0, 0.0]).logsumexp(0)
    mean = (log_sum - 3 + 2 * log_sum) / 3  # a third of the labelled pixels is class 1
    assert evaluation.loss == pytest.approx(float(mean), rel=0.02)


def by_hand(
    network: SegmentationNetwork, folder: VocFolder, ids: list[str]
) -> tuple[Tensor, float]:
    """Confusion counts and mean loss, one image at a time."""
    matrix, loss = ConfusionMatrix(3, ignore_index=255), 0.0
    for name in ids:
        image, labels = folder.read_pair(name)
        with torch.no_grad():
            inputs = normalise(resize_pixels(image, 32, 40), SPEC)[None]
            logits, native = network(inputs), network.native_logits(inputs)
        small = resize_labels(labels, 32, 40).long()
        loss += float(cross_entropy(logits, small[None], 255))
        matrix.update(labels, segment_logits(native[0], *labels.shape).labels)
    return matrix.counts, loss / len(ids)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 0), (8, 0), (2, 2)])
def test_batches_and_workers_change_no_figure(
    batch_size: int, workers: int, name: str, folder: VocFolder
) -> None:
    network = undecided_network(num_classes=3, name=name)
    ids = ["a", "b", "c", "d"]
    evaluation = evaluate_network(
        network, folder, ids, SPEC, EXACT, batch_size=batch_size, workers=workers
    )
    counts, loss = by_hand(network, folder, ids)
    assert counts.sum() == evaluation.matrix.counts.sum()
    assert (counts - evaluation.matrix.counts).abs().sum() <= 4  # ties after rounding
    assert (counts.sum(0) > 0).all()
    assert evaluation.loss == pytest.approx(loss, rel=1e-4)


def test_every_image_is_shown_once_with_labels_of_its_own_size(folder: VocFolder) -> None:
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    order = []

    def on_image(name: str, labels: Tensor, result: Tensor) -> None:
        order.append(name)
        seen[name] = labels, result

    ids = ["d", "a", "b"]
    evaluate_network(AlwaysClass(2), folder, ids, SPEC, EXACT, batch_size=2, on_image=on_image)
    assert order == ids
    for name, (labels, result) in seen.items():
        assert torch.equal(labels, folder.read_labels(name))
        assert result.dtype == torch.uint8
        assert torch.equal(result, torch.full_like(labels, 2))


def test_a_network_is_measured_in_evaluation_mode_and_keeps_its_statistics(
    folder: VocFolder,
) -> None:
    network = small_network("unet", num_classes=3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    evaluate_network(network, folder, ["a", "b"], SPEC, EXACT)
    assert not network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_figures_that_do_not_exist_are_none(folder: VocFolder) -> None:
    matrix = ConfusionMatrix(3, ignore_index=255)
    matrix.counts[0, 0], matrix.counts[1, 0] = 3, 1
    metrics = Evaluation(matrix, float("nan"), 2).metrics(folder, "val")
    assert metrics == Metrics(
        dataset="data",
        split="val",
        images=2,
        pixel_accuracy=0.75,
        mean_iou=0.375,
        mean_dice=3 / 7,
        mean_boundary_iou=None,
        per_class_iou={"ground": 0.75, "red": 0.0, "green": None},
        loss=None,
    )


def test_parts_of_a_split_add_up_to_the_whole(folder: VocFolder) -> None:
    """As when every process of several measures its share; the last has none."""
    network, ids = undecided_network(num_classes=3), ["a", "b", "c", "d"]

    def measured(part: list[str]) -> Evaluation:
        return evaluate_network(network, folder, part, SPEC, EXACT, batch_size=1, boundary=True)

    whole = measured(ids)
    parts = measured(ids[0::2]) + measured(ids[1::2]) + measured([])
    assert torch.equal(parts.matrix.counts, whole.matrix.counts)
    assert parts.boundary is not None
    assert whole.boundary is not None
    assert torch.equal(parts.boundary.intersection, whole.boundary.intersection)
    assert torch.equal(parts.boundary.union, whole.boundary.union)
    assert parts.images == whole.images == 4
    assert parts.loss == pytest.approx(whole.loss)
    assert sorted(parts.scores, key=lambda score: score.id) == whole.scores


def test_a_part_without_boundaries_cannot_stand_for_one_with() -> None:
    bare, banded = Evaluation.empty(THREE_CLASSES), Evaluation.empty(THREE_CLASSES, boundary=True)
    with pytest.raises(ValueError, match="boundary"):
        bare + banded


def test_no_image_has_no_figures(folder: VocFolder) -> None:
    metrics = evaluate_network(AlwaysClass(1), folder, [], SPEC, EXACT).metrics(folder, "val")
    assert (metrics.images, metrics.loss, metrics.mean_iou) == (0, None, None)


def test_each_image_is_scored_and_the_worst_is_kept_with_its_answer(folder: VocFolder) -> None:
    write_mask(folder.root, "c", np.ones((20, 24), dtype=np.uint8))
    worst = WorstImages(1)
    evaluation = evaluate_network(AlwaysClass(1), folder, ["c", "a"], SPEC, EXACT, worst=worst)
    assert evaluation.scores == [
        ImageScore("c", pixel_accuracy=1, mean_iou=1, labelled_pixels=480),
        ImageScore("a", pixel_accuracy=1 / 3, mean_iou=1 / 3 / 3, labelled_pixels=360),
    ]
    [(score, predicted)] = worst.images
    assert score.id == "a"
    assert torch.equal(predicted, torch.ones(20, 24, dtype=torch.uint8))


def test_augmentation_at_test_time_asks_for_every_look(folder: VocFolder) -> None:
    seen: list[tuple[int, ...]] = []

    class Recorder(AlwaysClass):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(tuple(images.shape))
            return super().forward(images)

    looks = TestTimeAugmentation(flip=False, scales=(0.5, 1.0))
    evaluation = evaluate_network(Recorder(1), folder, ["a", "c"], SPEC, EXACT, tta=looks)
    assert seen == [(2, 3, 16, 20), (2, 3, 32, 40)]
    plain = evaluate_network(AlwaysClass(1), folder, ["a", "c"], SPEC, EXACT)
    assert torch.equal(evaluation.matrix.counts, plain.matrix.counts)
    assert evaluation.loss == pytest.approx(plain.loss)


def manifest_of(class_set: ClassSet) -> Manifest:
    network = small_network("unet", num_classes=len(class_set))
    manifest = manifest_for(network, "unet").model_dump()
    manifest["classes"] = [
        {"id": c.id, "name": c.name, "color": c.color} for c in class_set.classes
    ]
    return Manifest.model_validate(manifest)


def test_the_same_classes_pass(folder: VocFolder) -> None:
    require_same_classes(manifest_of(THREE_CLASSES), folder, name="x.pth")


def test_another_number_of_classes_points_at_the_border(folder: VocFolder) -> None:
    (folder.root / "classes.json").unlink()
    voc = VocFolder.open(folder.root, border="class")
    with pytest.raises(DatasetError) as caught:
        require_same_classes(manifest_of(voc_classes(border="ignore")), voc, name="x.pth")
    message = str(caught.value)
    assert message.startswith("x.pth: the checkpoint has 21 classes, the dataset ")
    assert " 22 " in message
    assert "--border class gives 22, --border ignore 21" in message


def test_other_names_are_told_apart_one_by_one(folder: VocFolder) -> None:
    manifest = manifest_for(small_network("unet", num_classes=3), "unet")
    with pytest.raises(DatasetError, match=r"0: 'thing 0' is 'ground'; 1: 'thing 1' is 'red'"):
        require_same_classes(manifest, folder, name="x.pth")


def test_class_names_become_ids_in_the_order_given(folder: VocFolder) -> None:
    assert class_ids(folder, "green, ground") == [2, 0]


@pytest.mark.parametrize("names", ["blue", "green,Red"])
def test_an_unknown_class_name_lists_the_classes(names: str, folder: VocFolder) -> None:
    with pytest.raises(DatasetError, match="is not one of ground, red, green"):
        class_ids(folder, names)


def test_an_image_without_a_label_has_no_part_in_the_loss(folder: VocFolder) -> None:
    network = undecided_network(num_classes=3)
    alone = evaluate_network(network, folder, ["a"], SPEC, EXACT)
    write_mask(folder.root, "b", np.full((50, 30), 255, dtype=np.uint8))
    both = evaluate_network(network, folder, ["a", "b"], SPEC, EXACT, batch_size=1)
    assert both.images == 2
    assert both.loss == pytest.approx(alone.loss)
