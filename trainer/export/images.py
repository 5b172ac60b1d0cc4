"""The images an exported file is compared and calibrated on."""

import random
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from models.calibration import input_count, network_inputs
from models.manifest import InputSpec
from trainer.data.dataset import VocFolder
from trainer.export.agreement import Item
from trainer.progress import Reporter

NOISE_IMAGES = 8
SEED = 0


def split_items(folder: VocFolder, ids: list[str]) -> Iterator[Item]:
    for image_id in ids:
        yield folder.read_pair(image_id)


def noise_items(spec: InputSpec) -> Iterator[Item]:
    """Coloured clouds, the same ones every time: better than nothing, worse than photographs."""
    generator = torch.Generator().manual_seed(SEED)
    channels = len(spec.mean)
    for index in range(NOISE_IMAGES):
        coarse = torch.rand(1, channels, 3 + 4 * index, 3 + 4 * index, generator=generator)
        size = (spec.height, spec.width)
        clouds = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        yield (clouds[0] * 255).round().to(torch.uint8), None


def calibration_ids(folder: VocFolder, split: str, count: int) -> list[str]:
    """`count` ids, or all there are, drawn from the whole split: its file may be in any order."""
    ids = folder.split(split)
    return random.Random(SEED).sample(ids, min(count, len(ids)))


class CalibrationInputs(Iterable[Tensor]):
    """Network inputs of a list of images, read anew in each pass: quantisation makes several."""

    def __init__(
        self, folder: VocFolder, ids: list[str], spec: InputSpec, reporter: Reporter
    ) -> None:
        self.folder = folder
        self.ids = ids
        self.spec = spec
        self.reporter = reporter

    def __len__(self) -> int:
        """From the images' headers: quantisation wants to know how many inputs to take."""
        sizes = (self.folder.image_size(image_id) for image_id in self.ids)
        return sum(input_count(height, width, self.spec) for height, width in sizes)

    def __iter__(self) -> Iterator[Tensor]:
        self.reporter.begin("calibrating", total=len(self.ids))
        for image_id in self.ids:
            yield from network_inputs(self.folder.read_image(image_id), self.spec)
            self.reporter.advance(1)
