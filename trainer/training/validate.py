"""Measuring a run's network on the validation split, by all processes together."""

from collections.abc import Callable
from functools import reduce
from operator import add

import torch
from torch import Tensor

from models.manifest import InputSpec
from models.network import SegmentationNetwork
from trainer.data.dataset import VocFolder
from trainer.distributed import Processes
from trainer.evaluation.evaluate import Evaluation, evaluate_network
from trainer.precision import Precision
from trainer.training.run_folder import Picture


def validate(
    network: SegmentationNetwork,
    folder: VocFolder,
    share: list[str],
    spec: InputSpec,
    device: torch.device,
    processes: Processes,
    *,
    workers: int,
    pictured: set[str],
    on_image: Callable[[], None],
) -> tuple[Evaluation, list[Picture]]:
    """Each process measures its `share`, in float32 as `evaluate` does; the figures, and the
    pictures of the ids in `pictured`, are of all of them."""
    pictures: list[Picture] = []

    def collect(image_id: str, labels: Tensor, result: Tensor) -> None:
        on_image()
        if image_id in pictured:
            pictures.append(Picture(image_id, labels, result))

    processes.share_state(network)  # batch statistics differ where each process has its own

    def measure() -> Evaluation:
        return evaluate_network(
            network, folder, share, spec, Precision(device), workers=workers, on_image=collect
        )

    evaluation = processes.together(measure, device)
    total: Evaluation = reduce(add, processes.gather(evaluation))
    return total, [picture for each in processes.gather(pictures) for picture in each]
